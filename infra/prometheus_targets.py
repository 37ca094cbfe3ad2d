"""The file by which Prometheus finds the parts of a system: `file_sd_configs` reads it.

    - job_name: tapewire
      file_sd_configs: [{files: [.tapewire/prometheus.json]}]

Each part has the label `component`, as it has in Kubernetes.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from infra.embedded_broker import free_port
from infra.errors import InfraError


class Target(NamedTuple):
    """Where a part shows its metrics."""

    component: str
    """Such as `edge` or `processor`; several edges have the same."""
    port: int
    scheme: str = "http"


def take_ports(names: Sequence[str], first: int) -> Mapping[str, int]:
    """Return a free port for each name.

    Args:
        names: the parts.
        first: the first port that may be taken; 0 for any.

    Raises:
        InfraError: there are not enough free ports.
    """
    ports: dict[str, int] = {}
    port = first
    for name in names:
        try:
            port = free_port(port)
            while port in ports.values():
                port = free_port(port + 1 if first else 0)
        except OSError as error:
            raise InfraError(f"no port from {first} to 65535 is free for metrics") from error
        ports[name] = port
        port = port + 1 if first else 0
    return ports


def text_of(targets: Sequence[Target]) -> str:
    """Return the file's text."""
    found = [
        {
            "targets": [f"127.0.0.1:{target.port}"],
            "labels": {"component": target.component, "__scheme__": target.scheme},
        }
        for target in targets
    ]
    return json.dumps(found, indent=2) + "\n"


@contextmanager
def targets_file(path: Path, targets: Sequence[Target]) -> Generator[None]:
    """Let Prometheus find targets, until the block ends."""
    path.write_text(text_of(targets), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
