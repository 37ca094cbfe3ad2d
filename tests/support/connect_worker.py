"""A worker of Kafka Connect with the Iceberg sink, in a process of its own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from infra.embedded_broker import free_port

_STOP_S = 30.0


def java() -> str:
    """Return the path of the machine's Java, in which the sink's Hadoop classes still run."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    assert found, "Java 17 or 21 is missing"
    return found


class ConnectWorker:
    """Runs connectors in standalone mode, on loopback only."""

    def __init__(
        self, installed: Path, servers: str, folder: Path, *, memory: str = "512m"
    ) -> None:
        """Describe a worker; `start` runs it.

        Args:
            installed: the folder with its jars, which the example's `install.py` makes.
            servers: Kafka's addresses.
            folder: where its settings, its offsets and what it prints are.
            memory: the most of Java's heap.
        """
        self._installed = installed
        self._memory = memory
        self._settings = folder / "worker.properties"
        self.log = folder / "connect.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._settings.write_text(
            f"bootstrap.servers={servers}\n"
            f"listeners=http://127.0.0.1:{free_port()}\n"
            f"plugin.path={installed / 'plugins'}\n"
            "plugin.discovery=service_load\n"
            f"offset.storage.file.filename={folder / 'offsets'}\n"
            "key.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n"
            "value.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n"
            # A killed worker is out of its group after that time.
            "consumer.session.timeout.ms=6000\n"
            "consumer.heartbeat.interval.ms=1000\n"
        )

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def start(self, connectors: Sequence[Path]) -> None:
        """Run connectors by their files of properties."""
        command = [
            *(java(), f"-Xmx{self._memory}", "-cp", f"{self._installed / 'worker'}/*"),
            *("org.apache.kafka.connect.cli.ConnectStandalone", str(self._settings)),
            *map(str, connectors),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def check(self) -> None:
        """Fail with the last lines of its log, if the process or a task has ended."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        assert self._process is not None
        failed = self._process.poll() is not None or "Task threw an uncaught" in text
        assert not failed, text[-6_000:]

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """End the process, and wait until it has ended."""
        if self._process is not None:
            self._process.send_signal(sig)
            self._process.wait(timeout=_STOP_S)
            self._process = None
