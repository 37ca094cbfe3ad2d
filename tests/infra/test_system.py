import os
from pathlib import Path

import pytest

from infra import system
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


def test_a_wheel_has_no_examples_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(system, "_EXAMPLES", tmp_path / "none")
    with pytest.raises(InfraError, match="the examples are in the checkout"):
        system._examples()
