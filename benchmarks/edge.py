"""`make bench-edge`: the edge beside baselines in Python and Go, in one run on one machine.

Each figure is taken from a server process of its own, with Kafka, producers and clients in other
processes; CPU time is the server's, of all its threads. What a figure means is in README.md.
"""

import argparse
import os
import random
import socket
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import urlopen

import psutil
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from benchmarks import go_server
from benchmarks.broker import running_kafka
from benchmarks.load import Counted, Fleet, Produced, Running, produce
from infra.embedded_broker import free_port
from sse_edge.cursor import CursorCodec, CursorKeys

PATH = "/api/v1/sse/training"
_START_S = 60.0
_CLIENTS = 1_000
_LIVE = 200
_FLEETS = 2
_P99_MS_MAX = 250
_FAST_RATES = (1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 8_000, 10_000)
_COLUMNS = {
    "consumer": "consumer per connection",
    "queue": "queue per connection",
    "go": "tuned Go server",
    "edge": "edge",
}


@dataclass(frozen=True, slots=True)
class Kafka:
    """The broker, and how to make topics on it."""

    servers: str

    def topic(self, prefix: str, partitions: int) -> str:
        """Make a topic, and return when it is there."""
        name = f"{prefix}training.events"
        admin = AdminClient({"bootstrap.servers": self.servers})
        made = admin.create_topics([NewTopic(name, num_partitions=partitions)])
        for answer in made.values():
            answer.result()
        return name


@contextmanager
def pinned(core: int | None) -> Generator[None]:
    """Bind processes that the block starts to a core; None for no binding."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server:
    """A server under test."""

    def __init__(
        self,
        kind: str,
        kafka: Kafka,
        prefix: str,
        partitions: int,
        *,
        core: int | None = None,
        **env: str,
    ) -> None:
        self.kind = kind
        self.port = free_port()
        if kind == "edge":
            command = [sys.executable, "-m", "sse_edge"]
        elif kind == "go":
            topic = f"{prefix}training.events"
            program = go_server.SERVER
            command = go_server.command(program, kafka.servers, topic, partitions, self.port)
        else:
            command = [sys.executable, "-m", "benchmarks.baselines", kind]
            command += ["--servers", kafka.servers, "--topic", f"{prefix}training.events"]
            command += ["--partitions", str(partitions), "--port", str(self.port)]
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.servers,
            "TAPEWIRE_TOPIC_PREFIX": prefix,
            "TAPEWIRE_PORT": str(self.port),
            "TAPEWIRE_CONNECTIONS_PER_IP_MAX": "100000",
            "TAPEWIRE_WINDOW_BYTES_MAX": str(400 << 20),
            "TAPEWIRE_HISTORY_BYTES_MAX": str(1600 << 20),
        }
        with pinned(core):
            self._process = subprocess.Popen(  # noqa: S603  # our own servers
                command,
                env=os.environ | settings | env,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get("BENCH_STDERR") else subprocess.DEVNULL,
            )
        self._ps = psutil.Process(self._process.pid)
        deadline = time.monotonic() + _START_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{kind} did not start")
            time.sleep(0.05)

    def cpu_s(self) -> float:
        """CPU time used up to now, also by its other processes."""
        times = [process.cpu_times() for process in self._processes()]
        return float(sum(used.user + used.system for used in times))

    def keep_to(self, cores: int) -> None:
        """Keep its threads, and the processes that it starts from now on, to so many cores."""
        for thread in self._ps.threads():
            os.sched_setaffinity(thread.id, sorted(os.sched_getaffinity(0))[-cores:])

    def rss(self) -> int:
        """Resident memory, in bytes."""
        return int(self._ps.memory_info().rss)

    def pss(self) -> int:
        """Memory of all its processes, in bytes; what they share counts once."""
        return sum(process.memory_full_info().pss for process in self._processes())

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def stop(self) -> None:
        """End it at once, with its other processes."""
        # The first is killed first, since it would start another for one that has ended.
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _processes(self) -> list[psutil.Process]:
        return [self._ps, *self._ps.children(recursive=True)] if self._ps.is_running() else []


@dataclass
class Bench:
    """What all measurements need."""

    kafka: Kafka
    quick: bool
    go: Path | None = None
    """The Go server's program; None where it cannot be built."""
    core: int | None = None
    """The core that servers are bound to; None for all cores."""

    def kinds(self, *kinds: str) -> Sequence[str]:
        """Return those kinds of servers that there are here."""
        return [kind for kind in kinds if kind != "go" or self.go is not None]

    @contextmanager
    def server(self, kind: str, partitions: int = 1, **env: str) -> Generator[tuple[Server, str]]:
        """A fresh server on a fresh topic."""
        prefix = f"b{random.randrange(16**8):08x}."  # noqa: S311
        topic = self.kafka.topic(prefix, partitions)
        server = Server(kind, self.kafka, prefix, partitions, core=self.core, **env)
        try:
            yield server, topic
        finally:
            server.stop()

    def producing(self, topic: str, rate: float, seconds: float) -> Running:
        """A producer of one task's events at a rate."""
        what = Produced(self.kafka.servers, topic, rate, seconds, start_at=time.time() + 1.0)
        return Running(produce, what)


@contextmanager
def fleets(count: int = _FLEETS) -> Generator[list[Fleet]]:
    """Client processes."""
    made = [Fleet() for _ in range(count)]
    try:
        yield made
    finally:
        for fleet in made:
            fleet.close()


def open_all(many: Sequence[Fleet], port: int, clients: int, **how: object) -> None:
    """Open so many streams, spread over client processes."""
    for number, fleet in enumerate(many):
        share = clients // len(many) + (number < clients % len(many))
        fleet.open(port, [PATH] * share, **how)


def counted(many: Sequence[Fleet]) -> Counted:
    """What all clients have seen since they were last asked."""
    total = Counted()
    for fleet in many:
        one = fleet.count()
        total.events += one.events
        total.bytes += one.bytes
        total.connections += one.connections
        total.refused += one.refused
        total.latencies_s += one.latencies_s
        total.done_s = max(total.done_s, one.done_s)
        total.lost_s += one.lost_s
    return total


def until_counted(many: Sequence[Fleet], events: int, within_s: float) -> tuple[Counted, bool]:
    """Wait until so many events have come, or for so long."""
    total = Counted()
    deadline = time.monotonic() + within_s
    while total.events < events and time.monotonic() < deadline:
        time.sleep(0.05)
        more = counted(many)
        total.events += more.events
        total.bytes += more.bytes
        total.latencies_s += more.latencies_s
        total.done_s = max(total.done_s, more.done_s)
    return total, total.events >= events


def delivered(
    server: Server, many: Sequence[Fleet], what: Produced, events: int, within_s: float
) -> tuple[Counted, bool, float]:
    """Produce events while clients read them.

    Returns:
        The events that clients have read, whether these are all, and the server's CPU time in
        seconds.
    """
    running = Running(produce, what)
    cpu_s = server.cpu_s()
    seen, complete = until_counted(many, events, within_s)
    cpu_s = server.cpu_s() - cpu_s
    running.result()
    return seen, complete, cpu_s


def quantile(values: Sequence[float], part: float) -> float:
    """A quantile of measured values; nan where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


@dataclass(frozen=True, slots=True)
class Broadcast:
    """How a broadcast at some rate went."""

    deliveries: int
    complete: bool
    cpu_s: float
    p50_ms: float
    p99_ms: float
    bytes: int
    seconds: float


def broadcast(
    bench: Bench,
    server: Server,
    topic: str,
    many: Sequence[Fleet],
    clients: int,
    rate: float,
    seconds: float,
) -> Broadcast:
    """Tell everybody `rate` events a second, and wait until they have them."""
    counted(many)
    running = bench.producing(topic, rate, seconds)
    cpu_s, began = server.cpu_s(), time.monotonic()
    seen, complete = until_counted(many, round(rate * seconds) * clients, seconds + 6.0)
    took_s = time.monotonic() - began
    cpu_s = server.cpu_s() - cpu_s
    running.result()
    return Broadcast(
        seen.events,
        complete,
        cpu_s,
        quantile(seen.latencies_s, 0.5) * 1000,
        quantile(seen.latencies_s, 0.99) * 1000,
        seen.bytes,
        took_s,
    )


Row = tuple[str, dict[str, str], str]
"""A measurement: what, the figures by server, and how it compares."""


def ratios_of(figures: Mapping[str, float], form: str = ".2f", *, faster: bool = False) -> str:
    """Return the edge's figure as a part of those of the queue and of the Go server.

    Args:
        figures: by the kind of server.
        form: how a ratio is shown.
        faster: whether a larger ratio is the better one, as of speeds.
    """
    ratios = [
        f"{figures['edge'] / max(figures[kind], 1e-9):{form}} {'times' if faster else 'of'} {name}"
        for kind, name in (("queue", "queue's"), ("go", "Go's"))
        if kind in figures
    ]
    return ", ".join(ratios)


def at_100_000(bench: Bench) -> Row:
    """CPU time and p99 at 100,000 deliveries a second, to 1,000 connections."""
    seconds = 4.0 if bench.quick else 8.0
    shown, per_delivery = {}, {}
    for kind in bench.kinds("consumer", "queue", "go", "edge"):
        clients = 50 if kind == "consumer" else _CLIENTS
        rate = 80.0 if kind == "consumer" else 100.0
        with bench.server(kind) as (server, topic), fleets() as many:
            open_all(many, server.port, clients, burst=10 if kind == "consumer" else 100)
            broadcast(bench, server, topic, many, clients, 10.0, 1.0)
            got = broadcast(bench, server, topic, many, clients, rate, seconds)
            cpu = got.cpu_s / max(got.deliveries, 1) * 100_000
            per_delivery[kind] = cpu
            late = "" if got.complete else ", falls behind"
            at = f" at {rate * clients:,.0f}/s" if kind == "consumer" else ""
            shown[kind] = f"{cpu:.2f} s{at}, p99 {got.p99_ms:,.0f} ms{late}"
    return "100,000 deliveries/s: CPU s per 100,000", shown, f"{ratios_of(per_delivery)} CPU"


def highest_broadcast(bench: Bench) -> Row:
    """The most deliveries a second to 1,000 connections, all of them, with p99 under 250 ms."""
    seconds = 3.0 if bench.quick else 5.0
    rates = {
        "consumer": (20, 40, 80, 160, 320),
        "queue": (5, 10, 20, 30, 40, 50, 60, 80, 100),
        "go": _FAST_RATES,
        "edge": _FAST_RATES,
    }
    shown, best = {}, {}
    for kind in bench.kinds(*rates):
        clients = 50 if kind == "consumer" else _CLIENTS
        best[kind] = 0.0
        with bench.server(kind) as (server, topic), fleets() as many:
            open_all(many, server.port, clients, burst=10 if kind == "consumer" else 100)
            broadcast(bench, server, topic, many, clients, 10.0, 1.0)
            for rate in rates[kind]:
                got = broadcast(bench, server, topic, many, clients, rate, seconds)
                if not got.complete or got.p99_ms > _P99_MS_MAX:
                    break  # what it could not tell is still on its way, and would be in the next
                best[kind] = rate * clients
        shown[kind] = f"{best[kind]:,.0f}/s"
    best.pop("consumer")
    return "highest broadcast, p99 under 250 ms", shown, ratios_of(best, ".1f", faster=True)


def keyed(bench: Bench) -> Row:
    """CPU per event, 2,000 streams of one key each, 20,000 events a second in all."""
    streams, rate, seconds = 2_000, 20_000.0, 4.0 if bench.quick else 6.0
    tasks = [f"task-{number}" for number in range(streams)]
    partitions = [number % 6 for number in range(streams)]
    shown, per_event = {}, {}
    for kind in bench.kinds("queue", "go", "edge"):
        with bench.server(kind, 6, TAPEWIRE_METADATA_S="2") as (server, topic), fleets() as many:
            # The edge looks for a key where producers put it.
            placed = [home(task) for task in tasks] if kind == "edge" else partitions
            for number, fleet in enumerate(many):
                fleet.open(server.port, [f"{PATH}?task_id={task}" for task in tasks[number::2]])
            counted(many)
            what = Produced(
                bench.kafka.servers, topic, rate, seconds,
                tasks=tasks, partitions=placed, start_at=time.time() + 1.0,
            )  # fmt: skip
            seen, complete, cpu_s = delivered(
                server, many, what, round(rate * seconds), seconds + 8.0
            )
            per_event[kind] = cpu_s / max(seen.events, 1) * 1e6
            late = "" if complete else ", falls behind"
            p50_ms, p99_ms = (quantile(seen.latencies_s, part) * 1000 for part in (0.5, 0.99))
            shown[kind] = (
                f"{per_event[kind]:.0f} µs, p50 {p50_ms:,.1f} ms, p99 {p99_ms:,.0f} ms{late}"
            )
    return "2,000 keyed streams, 20,000 events/s: CPU per event", shown, ratios_of(per_event)


def resume_storm(bench: Bench) -> Row:
    """1,000 clients come back at once, each having missed 1,000 events."""
    shown, took = {}, {}
    for kind in bench.kinds("queue", "joined", "go", "edge"):
        with bench.server(kind) as (server, topic), fleets(1) as watching:
            open_all(watching, server.port, 1, keeps_id=True)
            produce(Produced(bench.kafka.servers, topic, 100.0, count=20))
            until_counted(watching, 20, 20)
            last_id = watching[0].ids()[0]
            produce(Produced(bench.kafka.servers, topic, 2_000.0, count=1_000))
            until_counted(watching, 1_000, 30)
            with fleets() as many:
                counted(many)
                began = time.monotonic()
                for fleet in many:
                    share = _CLIENTS // len(many)
                    fleet.open(server.port, [PATH] * share, last_ids=[last_id] * share, burst=share)
                seen, complete = until_counted(many, _CLIENTS * 1_000, 120.0)
            took[kind] = seen.done_s - began
            late = "" if complete else f", {seen.events:,} of {_CLIENTS * 1_000:,} came"
            shown[kind] = f"{took[kind]:.2f} s, {server.rss() / 2**20:,.0f} MiB{late}"
    shown["queue"] += f"; joined {shown.pop('joined')}"
    return "1,000 clients resume 1,000 events each: done after", shown, ratios_of(took)


def replay(bench: Bench) -> Row:
    """One client that replays 200,000 events from memory."""
    events = 50_000 if bench.quick else 200_000
    shown, speed = {}, {}
    for kind in bench.kinds("queue", "go", "edge"):
        with bench.server(kind) as (server, topic), fleets(1) as watching:
            open_all(watching, server.port, 1, keeps_id=True)
            produce(Produced(bench.kafka.servers, topic, 100.0, count=20))
            until_counted(watching, 20, 20)
            last_id = watching[0].ids()[0]
            produce(Produced(bench.kafka.servers, topic, 20_000.0, count=events))
            until_counted(watching, events, 60)
            speeds = []
            for _ in range(3):
                with fleets(1) as one:
                    counted(one)
                    began = time.monotonic()
                    one[0].open(server.port, [PATH], last_ids=[last_id])
                    seen, complete = until_counted(one, events, 60.0)
                    speeds.append(events / (seen.done_s - began) if complete else 0.0)
            speed[kind] = max(speeds)
            shown[kind] = f"{speed[kind]:,.0f}/s"
    what = f"one client replays {events:,} events from memory"
    return what, shown, ratios_of(speed, ".1f", faster=True)


def deep_replay(bench: Bench) -> Row:
    """One client that replays events from Kafka, from before the window; on one core, and on two.

    The CPU time is that of the server and its processes.
    """
    events = 100_000 if bench.quick else 300_000
    shown, best = {}, {}
    for kind in ("consumer", "edge"):
        # The consumer takes so long that a sixth has to do.
        replayed = events // 6 if kind == "consumer" else events
        figures = []
        for cores in (1, 2):
            with bench.server(kind) as (server, topic):
                server.keep_to(cores)
                produce(Produced(bench.kafka.servers, topic, 0, count=replayed))
                speeds, cpu_us = [], []
                for _ in range(4):
                    cpu_s = server.cpu_s()
                    speeds.append(_replay_once(server.port, replayed))
                    cpu_us.append((server.cpu_s() - cpu_s) / replayed * 1e6)
            # The first round starts processes, and is left out.
            best[kind, cores] = max(speeds[1:])
            figures.append(
                f"{min(speeds[1:]):,.0f} to {max(speeds[1:]):,.0f}/s ({min(cpu_us[1:]):.1f} µs)"
            )
        shown[kind] = "; two: ".join(figures)
    ratio = best["edge", 1] / max(best["consumer", 1], 1.0)
    return (
        f"one client replays {events:,} events from Kafka, on one core: events/s (CPU an event)",
        shown,
        f"{ratio:.1f} times consumer's on one core",
    )


def _replay_once(port: int, events: int) -> float:
    """Return at how many events a second a client replays all of a topic; 0 if it gets too few."""
    with fleets(1) as one:
        counted(one)
        began = time.monotonic()
        one[0].open(port, [f"{PATH}?from=earliest"])
        seen, complete = until_counted(one, events, 60.0)
        return events / (seen.done_s - began) if complete else 0.0


def idle(bench: Bench) -> Row:
    """Memory per idle connection; the edge holds 10,000."""
    shown, each = {}, {}
    held_by = {"consumer": 50, "queue": 2_000, "go": 10_000, "edge": 10_000}
    for kind in bench.kinds(*held_by):
        clients = held_by[kind]
        with bench.server(kind) as (server, topic), fleets() as many:
            open_all(many, server.port, 10, burst=10)
            produce(Produced(bench.kafka.servers, topic, 100.0, count=20))
            time.sleep(1.0)
            before = server.rss()
            open_all(many, server.port, clients, burst=10 if kind == "consumer" else 100)
            time.sleep(2.0)
            each[kind] = (server.rss() - before) / clients / 1024
            held = counted(many).connections - 10
            shown[kind] = f"{each[kind]:.1f} KiB ({held:,} held)"
    return "memory per idle connection", shown, ratios_of(each)


def dropping(bench: Bench) -> Row:
    """p99 of 100,000 deliveries a second while clients drop and resume, 3,500 in 12 s."""
    reconnects, seconds = (1_166, 4.0) if bench.quick else (3_500, 12.0)
    shown, done = {}, 0
    for kind in bench.kinds("go", "edge"):
        with bench.server(kind) as (server, topic), fleets(3) as many:
            for fleet in many[:2]:
                fleet.open(server.port, [PATH] * 350, keeps_id=True)
            many[2].open(server.port, [PATH] * 300, keeps_id=True)
            broadcast(bench, server, topic, many, _CLIENTS, 10.0, 1.0)
            counted(many)
            running = bench.producing(topic, 100.0, seconds + 2)
            time.sleep(1.5)
            counted(many)
            many[2].begin_churn(server.port, PATH, reconnects, seconds)
            time.sleep(seconds)
            done = many[2].answer()
            seen = counted(many[:2])
            running.result()
        shown[kind] = f"{quantile(seen.latencies_s, 0.99) * 1000:,.0f} ms"
    what = f"{done:,} drops and resumes in {seconds:.0f} s: p99 of the others"
    return what, shown, "under 200 ms"


def quiet(bench: Bench) -> Row:
    """p50 at 10 events a second to 100 clients."""
    shown = {}
    for kind in bench.kinds("queue", "go", "edge"):
        with bench.server(kind) as (server, topic), fleets() as many:
            open_all(many, server.port, 100)
            broadcast(bench, server, topic, many, 100, 10.0, 1.0)
            got = broadcast(bench, server, topic, many, 100, 10.0, 4.0)
            shown[kind] = f"p50 {got.p50_ms:.1f} ms, p99 {got.p99_ms:.1f} ms"
    return "10 events/s to 100 clients", shown, "p50 under 5 ms"


def stalled(bench: Bench) -> Row:
    """1,000 clients that read nothing, beside 1,000 that do."""
    seconds = 5.0 if bench.quick else 15.0
    rss, p99_ms = {}, {}
    for others in ("none", "reading", "stalled"):
        small = {"TAPEWIRE_WINDOW_BYTES_MAX": str(8 << 20)}
        with bench.server("edge", 1, **small) as (server, topic), fleets(3) as many:
            if others != "none":
                many[2].open(server.port, [PATH] * _CLIENTS, pauses=others == "stalled")
            open_all(many[:2], server.port, _CLIENTS)
            broadcast(bench, server, topic, many[:2], _CLIENTS, 200.0, 10.0)
            got = broadcast(bench, server, topic, many[:2], _CLIENTS, 50.0, seconds)
            rss[others], p99_ms[others] = server.rss() / 2**20, got.p99_ms
    grown = rss["stalled"] / rss["reading"] - 1
    return (
        "1,000 stalled clients beside 1,000 that read 50,000 deliveries/s",
        {"edge": f"{rss['stalled']:,.0f} MiB, {grown:+.0%} to 2,000 reading ones"},
        f"p99 {p99_ms['stalled']:.0f} ms, without them {p99_ms['none']:.0f} ms",
    )


def catch_up_storm(bench: Bench) -> Row:
    """1,000 clients of one task come back at once, to a node that has nothing in memory.

    The others' live events are not the task's: they are as many meanwhile as before.
    """
    missed, path = 5_000, f"{PATH}?task_id=long"
    # Without a history, which would serve them from memory.
    small = {"TAPEWIRE_WINDOW_BYTES_MAX": str(1 << 20), "TAPEWIRE_HISTORY_BYTES_MAX": "0"}
    with ExitStack() as stack:
        first, topic = stack.enter_context(bench.server("edge", 1, **small))
        live, many = stack.enter_context(fleets()), stack.enter_context(fleets())
        long = Produced(bench.kafka.servers, topic, 5_000.0, count=20, tasks=["long"])
        with fleets(1) as watching:
            watching[0].open(first.port, [path], keeps_id=True)
            produce(long)
            until_counted(watching, 20, 20)
            last_id = watching[0].ids()[0]
        first.stop()
        produce(replace(long, count=missed))
        prefix = topic.removesuffix("training.events")
        server = Server("edge", bench.kafka, prefix, 1, core=bench.core, **small)
        stack.callback(server.stop)
        open_all(live, server.port, _LIVE)
        calm = broadcast(bench, server, topic, live, _LIVE, 100.0, 4.0)
        running = bench.producing(topic, 100.0, 8.0)
        until_counted(live, _LIVE, 10.0)
        began, share = time.monotonic(), _CLIENTS // len(many)
        for fleet in many:
            fleet.begin_open(server.port, [path] * share, last_ids=[last_id] * share)
        for fleet in many:
            fleet.answer()
        seen, complete = until_counted(many, _CLIENTS * missed, 60.0)
        stormy_ms = quantile(counted(live).latencies_s, 0.99) * 1000
        running.result()
        reads = _metric(server, "tapewire_catch_up_reads_total")
    lost = "none lost" if complete else f"{_CLIENTS * missed - seen.events:,} lost"
    return (
        f"1,000 clients resume {missed:,} events on a node that has read none of them",
        {"edge": f"all after {seen.done_s - began:.1f} s, {lost}, {reads:.0f} reads of Kafka"},
        f"p99 of {_LIVE} others {stormy_ms:.0f} ms meanwhile, {calm.p99_ms:.0f} ms before",
    )


def drain(bench: Bench) -> Row:
    """SIGTERM with 2,000 clients."""
    clients = 2_000
    with bench.server("edge", TAPEWIRE_DRAIN_S="5") as (server, _), fleets() as many:
        open_all(many, server.port, clients)
        counted(many)
        server.terminate()
        time.sleep(8.0)
        lost_s = sorted(counted(many).lost_s)
    worst = max((bisect_left(lost_s, at + 0.1) - n for n, at in enumerate(lost_s)), default=0)
    over_s = lost_s[-1] - lost_s[0] if lost_s else 0.0
    return (
        "SIGTERM with 2,000 clients",
        {"edge": f"{len(lost_s):,} ended over {over_s:.1f} s"},
        f"{worst / clients:.1%} of them in the worst 100 ms",
    )


def compression(bench: Bench) -> Row:
    """Gzip at 100,000 deliveries a second to 1,000 connections."""
    seconds = 4.0 if bench.quick else 8.0
    got = {}
    for coding in ("identity", "gzip"):
        with bench.server("edge") as (server, topic), fleets() as many:
            open_all(many, server.port, _CLIENTS, headers=f"Accept-Encoding: {coding}\r\n")
            counted(many)
            running = bench.producing(topic, 100.0, seconds)
            cpu_s = server.cpu_s()
            time.sleep(seconds + 3.0)
            got[coding] = (server.cpu_s() - cpu_s, counted(many).bytes)
            running.result()
    cpu_s, size = (item / other for item, other in zip(got["gzip"], got["identity"], strict=True))
    return (
        "gzip for all of 1,000 clients, 100,000 deliveries/s",
        {"edge": f"{1 - size:.0%} of the bytes saved"},
        f"{cpu_s:.2f} of the CPU time without it",
    )


def cursors(bench: Bench) -> Row:
    """The time of one id, of a live event in a stream of six partitions; the best of some runs."""
    plain = CursorKeys()
    sealed = CursorKeys.of(b"a secret of the operator's own")
    count = 5_000 if bench.quick else 20_000
    # By turns, since other programs take time from either.
    costs = [(_cost_of_an_id_us(plain, count), _cost_of_an_id_us(sealed, count)) for _ in range(7)]
    plain_us, sealed_us = (min(column) for column in zip(*costs, strict=True))
    return (
        "an id of six partitions",
        {"edge": f"{plain_us:.1f} µs, encrypted {sealed_us:.1f} µs"},
        f"{sealed_us / plain_us:.1f} times",
    )


def _cost_of_an_id_us(keys: CursorKeys, count: int) -> float:
    writer = CursorCodec("stream", 1, keys=keys).writer([(b"abcd", range(6))])
    offsets = [10_000_000 + number for number in range(6)]
    cells = writer.start(offsets)
    began_s = time.thread_time()
    for number in range(count):
        writer.move(cells, number % 6, offsets[number % 6] + number)
        writer.finish(cells)
    return (time.thread_time() - began_s) / count * 1e6


def _metric(server: Server, name: str) -> float:
    with urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:  # our own
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


MEASUREMENTS: dict[str, Callable[[Bench], Row]] = {
    item.__name__.replace("_", "-"): item
    for item in (
        at_100_000, highest_broadcast, keyed, resume_storm, replay, deep_replay, idle, dropping,
        quiet, stalled, catch_up_storm, drain, compression, cursors,
    )
}  # fmt: skip


def home(task: str) -> int:
    """Return the partition of six in which the edge looks for a key."""
    from aiokafka.partitioner import DefaultPartitioner  # noqa: PLC0415

    return int(DefaultPartitioner()(task.encode(), list(range(6)), list(range(6))))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", choices=[[], *MEASUREMENTS], help="these, not all")
    parser.add_argument("--quick", action="store_true", help="shorter, and less exact")
    parser.add_argument(
        "--one-core",
        action="store_true",
        help="the server on a core of its own, all else elsewhere",
    )
    arguments = parser.parse_args()
    first, *others = sorted(os.sched_getaffinity(0))
    core = first if arguments.one_core and others else None
    if core is not None:
        os.sched_setaffinity(0, others)
    with running_kafka() as servers:
        bench = Bench(Kafka(servers), arguments.quick, go_server.build(), core)
        on = "" if core is None else ", one of them for the server alone"
        print(f"{psutil.cpu_count()} cores{on}; events of 250 bytes, one partition, 1,000 clients")
        columns = bench.kinds(*_COLUMNS)
        print(f"| | {' | '.join(_COLUMNS[kind] for kind in columns)} | |")
        print("| --- " * (len(columns) + 2) + "|")
        for name in arguments.only or MEASUREMENTS:
            what, shown, compared = MEASUREMENTS[name](bench)
            figures = " | ".join(shown.get(kind, "-") for kind in columns)
            print(f"| {what} | {figures} | {compared} |", flush=True)


if __name__ == "__main__":
    main()
