import os
from pathlib import Path

import pytest

from infra import system
from infra.embedded_broker import free_port
from infra.errors import InfraError


def test_edges_find_the_examples_beside_added_routers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAPEWIRE_ROUTERS", "ours:router")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    settings = system._examples()
    assert settings["TAPEWIRE_ROUTERS"] == "ours:router,sse_response_examples:router"
    first, second = settings["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "sse_response_examples.py").exists()
    assert second == "/ours"


def test_each_edge_gets_a_management_port_that_is_no_main_port() -> None:
    first = free_port()
    found = system._management_ports(first, [first, first + 1])
    ports = [int(own["TAPEWIRE_MANAGEMENT_PORT"]) for own in found]
    assert len(set(ports)) == 2
    assert min(ports) > first + 1


@pytest.mark.parametrize("first", [None, 0])
def test_edges_without_a_number_for_the_management_port_keep_their_own_setting(
    first: int | None,
) -> None:
    assert list(system._management_ports(first, [8000, 8001])) == [{}, {}]


def test_a_wheel_has_no_examples_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(system, "_EXAMPLES", tmp_path / "none")
    with pytest.raises(InfraError, match="the examples are in the checkout"):
        system._examples()
