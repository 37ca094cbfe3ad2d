"""`make bench-capacity`: how costs grow with processes, clients, keys, partitions and portfolios.

Each point is a fresh server or worker on fresh topics. What the figures mean, and what they say of
larger systems, is in docs/internals/capacity.md.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.broker import embedded_kafka
from benchmarks.capacity_risk import RiskRun
from benchmarks.edge import (
    PATH,
    Bench,
    Kafka,
    broadcast,
    counted,
    delivered,
    fleets,
    home,
    open_all,
    quantile,
    until_counted,
)
from benchmarks.load import Produced, produce

_MIB = 1 << 20
_START_S = 2.0
"""How long after its start a producer begins, so that it has connected."""


class Table:
    """The points of one dimension, printed as they are measured."""

    def __init__(self, title: str, *columns: str) -> None:
        self._lines = [f"\n{title}\n", f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]

    def add(self, *cells: str) -> None:
        """Print a row, and before the first one the head."""
        for line in (*self._lines, f"| {' | '.join(cells)} |"):
            sys.stdout.write(f"{line}\n")
        self._lines.clear()
        sys.stdout.flush()


def edge_processes(bench: Bench, points: Sequence[int]) -> None:
    """An edge of several processes: 1,000 broadcast clients, then 2,000 streams of a key each."""
    table = Table(
        "Processes of an edge: 1,000 clients get 100 events/s; 2,000 streams get 5,000/s in all",
        "processes", "CPU µs a delivery", "CPU ms an event", "p99", "CPU µs a keyed event",
        "keyed p99", "MiB",
    )  # fmt: skip
    for processes in points:
        workers = {"TAPEWIRE_WORKERS": str(processes)}
        with bench.server("edge", 1, **workers) as (server, topic), fleets() as many:
            open_all(many, server.port, 1_000)
            broadcast(bench, server, topic, many, 1_000, 10.0, 1.0)
            got = broadcast(bench, server, topic, many, 1_000, 100.0, 4.0)
            memory = server.pss() / _MIB
        keyed_us, keyed_ms = _keyed(bench, 2_000, 5_000.0, workers)
        table.add(
            str(processes),
            f"{got.cpu_s / max(got.deliveries, 1) * 1e6:.1f}",
            f"{got.cpu_s / 400 * 1e3:.2f}",
            f"{got.p99_ms:,.0f} ms",
            f"{keyed_us:.0f}",
            f"{keyed_ms:,.0f} ms",
            f"{memory:,.0f}",
        )


def _keyed(bench: Bench, streams: int, rate: float, workers: dict[str, str]) -> tuple[float, float]:
    """Return the CPU time of an event in microseconds, and p99 in milliseconds."""
    tasks = [f"task-{number}" for number in range(streams)]
    with (
        bench.server("edge", 6, TAPEWIRE_METADATA_S="2", **workers) as (server, topic),
        fleets() as many,
    ):
        for number, fleet in enumerate(many):
            fleet.open(server.port, [f"{PATH}?task_id={task}" for task in tasks[number::2]])
        counted(many)
        seconds, start = 4.0, time.time() + _START_S
        what = Produced(
            bench.kafka.servers, topic, rate, seconds,
            tasks=tasks, partitions=[home(task) for task in tasks], start_at=start,
        )  # fmt: skip
        seen, _, cpu_s = delivered(server, many, what, round(rate * seconds), seconds + 15.0)
    return cpu_s / max(seen.events, 1) * 1e6, quantile(seen.latencies_s, 0.99) * 1e3


def subscribers(bench: Bench, points: Sequence[int]) -> None:
    """Broadcasts of 10 events a second to more and more clients."""
    table = Table(
        "Subscribers: all get 10 events/s",
        "subscribers", "CPU ms an event", "CPU µs a delivery", "p50", "p99", "KiB a connection",
    )  # fmt: skip
    for clients in points:
        with bench.server("edge") as (server, topic), fleets() as many:
            open_all(many, server.port, 10, burst=10)
            broadcast(bench, server, topic, many, 10, 10.0, 1.0)
            before = server.pss()
            open_all(many, server.port, clients - 10)
            time.sleep(1.0)
            each = (server.pss() - before) / (clients - 10) / 1024
            got = broadcast(bench, server, topic, many, clients, 10.0, 5.0)
        table.add(
            f"{clients:,}",
            f"{got.cpu_s / 50 * 1e3:.2f}",
            f"{got.cpu_s / max(got.deliveries, 1) * 1e6:.1f}",
            f"{got.p50_ms:,.0f} ms",
            f"{got.p99_ms:,.0f} ms",
            f"{each:.1f}",
        )


def keys(bench: Bench, points: Sequence[int]) -> None:
    """One record of each of many keys in a window, and then events of 100 keys with readers."""
    table = Table(
        "Keys in the window of a partition, a record each; then 100 streams get 2,000/s in all",
        "keys", "CPU µs a record read", "bytes a key", "CPU µs a keyed event", "p99",
    )  # fmt: skip
    settings = {"TAPEWIRE_WINDOW_BYTES_MAX": str(4 << 30), "TAPEWIRE_METADATA_S": "2"}
    for count in points:
        names = [f"task-{number}" for number in range(count)]
        watched = names[-100:]
        with bench.server("edge", 1, **settings) as (server, topic), fleets(1) as many:
            many[0].open(server.port, [f"{PATH}?task_id={name}" for name in watched])
            counted(many)
            time.sleep(1.0)
            before, cpu_s = server.pss(), server.cpu_s()
            produce(
                Produced(
                    bench.kafka.servers, topic, 0, count=count,
                    tasks=names, partitions=[0] * count,
                )
            )  # fmt: skip
            until_counted(many, len(watched), 120.0)
            read_us = (server.cpu_s() - cpu_s) / count * 1e6
            each = (server.pss() - before) / count
            rate, seconds = 2_000.0, 3.0
            what = Produced(
                bench.kafka.servers, topic, rate, seconds,
                tasks=watched, partitions=[0] * len(watched), start_at=time.time() + _START_S,
            )  # fmt: skip
            seen, _, cpu_s = delivered(server, many, what, round(rate * seconds), seconds + 15.0)
            keyed_us = cpu_s / max(seen.events, 1) * 1e6
        p99_ms = quantile(seen.latencies_s, 0.99) * 1e3
        table.add(
            f"{count:,}", f"{read_us:.1f}", f"{each:,.0f}", f"{keyed_us:.0f}", f"{p99_ms:,.0f} ms"
        )


def partitions(bench: Bench, points: Sequence[int]) -> None:
    """Broadcasts from topics of more and more partitions."""
    table = Table(
        "Partitions: 200 clients get 200 events/s from all of them",
        "partitions", "CPU ms an event", "CPU µs a delivery", "p99", "characters of an id",
    )  # fmt: skip
    for count in points:
        places = range(count)
        tasks = [f"task-{number}" for number in places]
        with bench.server("edge", count) as (server, topic), fleets(1) as many:
            many[0].open(server.port, [PATH] * 200, keeps_id=True)
            what = Produced(
                bench.kafka.servers, topic, 200.0, 0.0, count=count,
                tasks=tasks, partitions=places,
            )  # fmt: skip
            produce(what)
            until_counted(many, 200 * count, 15.0)
            events = 800
            what = Produced(
                bench.kafka.servers, topic, 200.0, count=events,
                tasks=tasks, partitions=places, start_at=time.time() + _START_S,
            )  # fmt: skip
            seen, _, cpu_s = delivered(server, many, what, 200 * events, 20.0)
            size = len(many[0].ids()[0])
        table.add(
            f"{count}",
            f"{cpu_s / events * 1e3:.2f}",
            f"{cpu_s / max(seen.events, 1) * 1e6:.1f}",
            f"{quantile(seen.latencies_s, 0.99) * 1e3:,.0f} ms",
            f"{size}",
        )


def risk_workers(bench: Bench, points: Sequence[int]) -> None:
    """Risk workers that share 1,000 portfolios."""
    table = Table(
        "Risk workers: 1,000 portfolios with full windows of 250; 100,000 returns, 200 a message",
        "workers", "returns/s", "CPU µs a return", "MiB",
    )  # fmt: skip
    for workers in points:
        with RiskRun(bench.kafka.servers, portfolios=1_000) as run:
            run.start(workers)
            run.feed(days=250)
            speed = run.feed(days=100)
            memory = run.pss() / _MIB
        table.add(str(workers), f"{speed.per_s:,.0f}", f"{speed.cpu_us:.1f}", f"{memory:,.0f}")


def portfolios(bench: Bench, points: Sequence[int], folder: Path) -> None:
    """One risk worker with more and more portfolios."""
    table = Table(
        "Portfolios of one risk worker, windows of 25; 20,000 returns, each in another state",
        "portfolios", "returns/s", "CPU µs a return", "MiB of the worker", "bytes of a state",
        "MiB of the changelog", "restart",
    )  # fmt: skip
    for count in points:
        with RiskRun(bench.kafka.servers, portfolios=count) as run:
            run.start(1)
            run.feed(days=25)
            speed = run.feed(days=1, returns=20_000)
            memory = run.pss() / _MIB
            changelog = run.changelog_bytes(folder) / _MIB
            restart_s = run.restart_s()
        table.add(
            f"{count:,}",
            f"{speed.per_s:,.0f}",
            f"{speed.cpu_us:.1f}",
            f"{memory:,.0f}",
            f"{run.state_bytes / count:,.0f}",
            f"{changelog:,.0f}",
            f"{restart_s:.1f} s",
        )


POINTS = {
    "edge-processes": (1, 2, 4),
    "subscribers": (100, 1_000, 10_000),
    "keys": (1_000, 10_000, 100_000, 1_000_000),
    "partitions": (6, 24, 96),
    "risk-workers": (1, 2, 4),
    "portfolios": (1_000, 10_000, 100_000),
}


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", choices=[[], *POINTS], help="these, not all")
    for name, points in POINTS.items():
        parser.add_argument(
            f"--{name}",
            type=lambda text: [int(part) for part in text.split(",") if part],
            default=points,
            metavar="N,N",
            help=f"the points, of {', '.join(f'{point:,}' for point in points)}; empty for none",
        )
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(Kafka(stack.enter_context(embedded_kafka(folder))), quick=False)
        sys.stdout.write(f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}\n")
        measured: dict[str, Callable[[Bench, Sequence[int]], None]] = {
            "edge-processes": edge_processes,
            "subscribers": subscribers,
            "keys": keys,
            "partitions": partitions,
            "risk-workers": risk_workers,
            "portfolios": lambda bench, points: portfolios(bench, points, folder),
        }
        for name in arguments.only or measured:
            measured[name](bench, getattr(arguments, name.replace("-", "_")))


if __name__ == "__main__":
    main()
