import json
import socket
from pathlib import Path

import pytest

from infra.embedded_broker import free_port
from infra.errors import InfraError
from infra.prometheus_targets import Target, take_ports, targets_file


@pytest.mark.parametrize("is_any", [True, False])
def test_each_part_has_a_port_of_its_own(*, is_any: bool) -> None:
    first = 0 if is_any else free_port()
    ports = take_ports(["processor", "trainer", "agents"], first)
    assert len(set(ports.values())) == 3
    assert min(ports.values()) >= first


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        assert take_ports(["trainer"], port)["trainer"] > port


def test_a_range_without_a_free_port_is_named() -> None:
    with pytest.raises(InfraError, match="no port from 65535 to 65535 is free for metrics"):
        take_ports(["trainer", "agents"], 65535)


def test_prometheus_finds_the_parts_as_long_as_they_run(tmp_path: Path) -> None:
    path = tmp_path / "prometheus.json"
    with targets_file(path, [Target("edge", 8000, "https"), Target("trainer", 9001)]):
        edge, trainer = json.loads(path.read_text())
        assert edge == {
            "targets": ["127.0.0.1:8000"],
            "labels": {"component": "edge", "__scheme__": "https"},
        }
        assert trainer["labels"] == {"component": "trainer", "__scheme__": "http"}
    assert not path.exists()
