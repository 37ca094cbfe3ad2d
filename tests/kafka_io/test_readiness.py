import socket
from pathlib import Path

import pytest

from kafka_io.readiness import notify_ready


@pytest.mark.parametrize("address", ["{folder}/ready", "@tapewire-{name}"])
def test_a_datagram_says_that_the_process_is_ready(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = address.format(folder=tmp_path, name=tmp_path.name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify_ready("waiting for jobs")
        assert listening.recv(100) == b"READY=1\nSTATUS=waiting for jobs"


def test_without_a_listener_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_ready("alone")
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/gone")
    notify_ready("left alone")
