import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from infra import disk_service
from infra.embedded_broker import free_port


def test_the_disk_is_shown_until_the_service_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "kafka" / "log" / "returns-0").mkdir(parents=True)
    port = free_port()
    env = {"TAPEWIRE_DATA_DIR": str(tmp_path), "TAPEWIRE_METRICS_PORT": str(port)}
    command = [sys.executable, "-c", _READY_THEN_MAIN]
    with subprocess.Popen(command, env=os.environ | env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"shown\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "tapewire_broker_disk_free_bytes " in text
    assert 'tapewire_broker_log_bytes{topic="returns"}' in text
    assert "tapewire_build_info" in text


_READY_THEN_MAIN = """\
import signal
from infra import disk_service
wait = signal.sigwait
def print_and_wait(signals):
    print("shown", flush=True)
    return wait(signals)
signal.sigwait = print_and_wait
disk_service.main()
"""


def test_a_service_without_a_port_says_which_setting_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TAPEWIRE_METRICS_PORT", raising=False)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        with pytest.raises(SystemExit, match="TAPEWIRE_METRICS_PORT is not set"):
            disk_service.main()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
