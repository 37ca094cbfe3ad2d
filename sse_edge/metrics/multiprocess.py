"""The metrics of all processes behind one port, from any one of them.

Each process writes its metrics to a shared folder once a second, as OpenMetrics. The process that
answers a scrape adds those of the others; the label `worker` holds the process id.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families


class MultiprocessMetrics:
    """The metrics of the processes that share a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine = str(os.getpid())

    def publish(self, families: Iterable[Metric]) -> None:
        """Write the metrics of this process to the folder."""
        registry = CollectorRegistry()
        registry.register(_Known(families))
        path = self._folder / f"{self._mine}.prom"
        written = path.with_suffix(".tmp")
        written.write_bytes(generate_latest(registry))
        written.replace(path)

    def with_others(self, families: Iterable[Metric]) -> Iterator[Metric]:
        """Return the metrics of all living processes."""
        merged: dict[str, Metric] = {}
        _merge(merged, families, self._mine)
        for path in self._folder.glob("*.prom"):
            if path.stem == self._mine:
                continue
            if _is_alive(int(path.stem)):
                text = path.read_text(encoding="utf-8")
                _merge(merged, text_string_to_metric_families(text), path.stem)
            else:
                path.unlink(missing_ok=True)
        return iter(merged.values())


class _Known:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _merge(merged: dict[str, Metric], families: Iterable[Metric], worker: str) -> None:
    for family in families:
        known = merged.setdefault(
            family.name, Metric(family.name, family.documentation, family.type)
        )
        known.samples += [
            sample._replace(labels={**sample.labels, "worker": worker}) for sample in family.samples
        ]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
