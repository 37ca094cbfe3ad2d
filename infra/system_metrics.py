"""The metrics of `tapewire up`: its parts, their processes, and the disk of the embedded broker.

Parts show what they do by themselves. Whether they are up, and what the log of the broker takes, is
known here only.
"""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from infra.part_states import PartState, PartStates
from kafka_io.part_metrics import labelled

_PARTITION = re.compile(r"(.+)-\d+")
_BLOCK_BYTES = 512


class SystemMetrics:
    """The metrics of a system that runs on a data directory."""

    def __init__(
        self, states: PartStates, pids: Callable[[], Mapping[str, int]], data_dir: Path
    ) -> None:
        """Show a system.

        Args:
            states: the states of the parts.
            pids: returns the process ids of the parts that run.
            data_dir: the folder of the embedded broker's data.
        """
        self._states = states
        self._pids = pids
        self._data_dir = data_dir

    def families(self) -> Iterator[Metric]:
        """Return all metrics for Prometheus."""
        states = self._states.present
        yield labelled(
            GaugeMetricFamily("tapewire_part_up", "Whether a part is ready", labels=["part"]),
            (((name,), state is PartState.UP) for name, state in states.items()),
        )
        yield labelled(
            CounterMetricFamily(
                "tapewire_part_restarts", "How often a part was started again", labels=["part"]
            ),
            (((name,), self._states.restarts[name]) for name in states),
        )
        yield from self._of_processes()
        yield from disk_families(self._data_dir)

    def _of_processes(self) -> Iterator[Metric]:
        memory, cpu = {}, {}
        for name, pid in self._pids().items():
            with suppress(psutil.Error):  # it has ended meanwhile
                process = psutil.Process(pid)
                memory[name,] = process.memory_info().rss
                times = process.cpu_times()
                cpu[name,] = times.user + times.system
        yield labelled(
            GaugeMetricFamily(
                "tapewire_part_resident_memory_bytes",
                "Resident memory of a part's process",
                labels=["part"],
            ),
            memory.items(),
        )
        yield labelled(
            CounterMetricFamily(
                "tapewire_part_cpu_seconds", "Processor time of a part's process", labels=["part"]
            ),
            cpu.items(),
        )


def disk_families(data_dir: Path) -> Iterator[Metric]:
    """Return the metrics of the embedded broker's disk; none where Kafka is elsewhere.

    Args:
        data_dir: the folder of the broker's data.
    """
    log = data_dir / "kafka" / "log"
    if not log.is_dir():
        return
    yield labelled(
        GaugeMetricFamily(
            "tapewire_broker_log_bytes",
            "Bytes that the embedded broker keeps of a topic on the disk",
            labels=["topic"],
        ),
        (((topic,), size) for topic, size in log_bytes(log).items()),
    )
    disk = shutil.disk_usage(log)
    yield GaugeMetricFamily(
        "tapewire_broker_disk_free_bytes",
        "Free bytes of the disk that has the embedded broker's log",
        value=disk.free,
    )
    yield GaugeMetricFamily(
        "tapewire_broker_disk_size_bytes",
        "Size of the disk that has the embedded broker's log",
        value=disk.total,
    )


def log_bytes(log: Path) -> Mapping[str, int]:
    """Return the bytes of each topic in a broker's log."""
    sizes: Counter[str] = Counter()
    for folder in log.iterdir():
        found = _PARTITION.fullmatch(folder.name)
        if found is None:
            continue
        with suppress(OSError):  # the broker deletes files meanwhile
            sizes[found[1]] += sum(
                path.lstat().st_blocks * _BLOCK_BYTES for path in folder.iterdir()
            )
    return sizes
