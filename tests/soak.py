"""A soak: `make soak`. Edges, workers and the broker are killed, stopped and paused; clients drop.

A stranger writes raw bytes and absurd records all the time. In the end every client must have had
every event, once, in order for each key, the measures and alerts must be those of a run without
faults, and each of the stranger's records must have one dead letter. The account is printed, and
the exit is 1 where it does not balance.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from infra.embedded_broker import free_port, prepare
from infra.settings import InfraSettings
from infra.topics import provision
from kafka_io.errors import Unsent
from kafka_io.settings import ProducerSettings
from producers.broadcaster import SSEBroadcaster
from tests.conftest import Started, TestKafka, World
from tests.faults.report import Flow
from tests.support.kept_worker import KeptWorker
from tests.support.returns_flow import ReturnsFlow
from tests.support.straight_run import TopicReader
from tests.support.stranger import Stranger

PATH = "/api/v1/sse/training"
EDGES = 3
TASKS = tuple(f"task-{number}" for number in range(12))
_EVENT = b"event: training_progress\n"
_PATIENCE_S = 120.0
_RETURNS_PACE_S = 1.0
_PAUSES_S = (5.0, 25.0)
"""Shorter and longer than a session of ten seconds."""


@dataclass
class Account:
    """What one client has had, up to its last id."""

    cursor: str = ""
    had: dict[str, int] = field(default_factory=dict)
    """By task, the number of the last event."""
    delivered: int = 0
    repeated: int = 0
    out_of_order: int = 0
    lost: int = 0
    gaps: int = 0
    resumes: int = 0

    def take(self, block: bytes) -> None:
        """Take in a whole block."""
        task = ""
        if block.startswith(_EVENT[:-1]):
            task = _between(block, b'"task_id":"', b'"')
        if task in TASKS:  # or it is a stranger's
            number = int(_between(block, b'"message":"', b'"'))
            last = self.had.get(task, -1)
            self.delivered += 1
            if number <= last:
                self.repeated += number == last
                self.out_of_order += number < last
            else:
                self.lost += number - last - 1
                self.had[task] = number
        elif block.startswith(b"event: gap"):
            self.gaps += 1
        at = block.rfind(b"\nid: ")
        if at >= 0 or block.startswith(b"id: "):
            self.cursor = block[at + 5 :].decode() if at >= 0 else block[4:].decode()


def _between(block: bytes, before: bytes, after: bytes) -> str:
    start = block.index(before) + len(before)
    return block[start : block.index(after, start)].decode()


@dataclass
class Soak:
    """Everything that takes part."""

    world: World
    dice: random.Random
    rate: float
    edges: list[Started] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    produced: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def produce(self, seconds: float) -> None:
        """Write events at the rate for a time; none is given up."""
        until = time.monotonic() + seconds
        await self.produce_while(lambda: time.monotonic() < until)

    async def produce_while(self, goes_on: Callable[[], bool]) -> None:
        """Write events at the rate; none is given up."""
        settings = ProducerSettings(
            bootstrap_servers=self.world.kafka.bootstrap_servers,
            topic_prefix=self.world.prefix,
            patience_s=_PATIENCE_S,
        )
        async with SSEBroadcaster(settings) as reporter:
            while goes_on():
                began = time.monotonic()
                async with asyncio.TaskGroup() as tasks:
                    for task in TASKS:
                        tasks.create_task(self._send(reporter, task))
                await asyncio.sleep(max(0.0, len(TASKS) / self.rate - (time.monotonic() - began)))

    async def _send(self, reporter: SSEBroadcaster, task: str) -> None:
        number = self.produced[task]
        with suppress(Unsent):  # it is still in the buffer, and will be sent
            await reporter.send_training_progress(task, 50.0, "running", str(number))
        self.produced[task] += 1

    async def follow(
        self, account: Account, stays: Sequence[float] = (0.3, 1.0, 3.0, 10.0, 30.0)
    ) -> None:
        """Be a client: read, drop after a while, resume elsewhere; in the end, read everything."""
        while True:
            port = self.dice.choice(self.ports)
            stays_s = self.dice.choice(stays)
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(stays_s), _stream(port, account.cursor) as reader:
                    await self._read(reader, account)
            account.resumes += 1
            if self.over.is_set() and self.has_everything(account):
                return
            await asyncio.sleep(self.dice.uniform(0, 0.2))

    async def _read(self, reader: asyncio.StreamReader, account: Account) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"an edge refused a client: {head!r} {await reader.read(500)!r}")
        rest = b""
        while not (self.over.is_set() and self.has_everything(account)):
            size = int(await reader.readline() or b"0", 16)
            data = (await reader.readexactly(size + 2))[:-2]
            *blocks, rest = (rest + data).split(b"\n\n")
            for block in blocks:
                account.take(block)
            if size == 0:
                return

    def has_everything(self, account: Account) -> bool:
        return all(account.had.get(task, -1) >= self.produced[task] - 1 for task in TASKS)

    async def start_edges(self) -> None:
        """Start those that clients choose from."""
        for _ in range(EDGES):
            self.edges.append(await self.world.edge(drain_s=1))
            self.ports.append(int(self.edges[-1].url.rsplit(":", 1)[1]))

    async def restart_edge(self, which: int, *, kill: bool) -> None:
        """End one, in order or not, and start it again on its port."""
        await (self.edges[which].kill() if kill else self.edges[which].stop())
        self.faults["edges killed" if kill else "edges drained"] += 1
        self.edges[which] = await self.world.edge(port=self.ports[which], drain_s=1)

    async def trouble_edges(self) -> None:
        """Kill, drain or pause one now and then."""
        while not self.over.is_set():
            await self._pause(self.dice.uniform(10, 25))
            which = self.dice.randrange(EDGES)
            kind = self.dice.choice(("kill", "drain", "pause"))
            if kind == "pause":
                self.faults["edges paused"] += 1
                await self._paused(self.edges[which].process.send_signal)
            else:
                await self.restart_edge(which, kill=kind == "kill")

    async def trouble_broker(self) -> None:
        """Restart it now and then, in order or not, or pause it."""
        while not self.over.is_set():
            await self._pause(self.dice.uniform(40, 80))
            if self.over.is_set():
                return
            how = self.dice.choice((signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP))
            if how == signal.SIGSTOP:
                self.faults["broker pauses"] += 1
                await self._paused(self.world.kafka.send_signal)
                continue
            await asyncio.to_thread(self.world.kafka.stop, how)
            await asyncio.sleep(self.dice.uniform(0.5, 5))
            await asyncio.to_thread(self.world.kafka.start)
            self.faults[f"broker restarts after {how.name}"] += 1

    async def trouble_workers(self, workers: Sequence[KeptWorker]) -> None:
        """Kill, stop or pause one now and then; it is started again at once."""
        while not self.over.is_set():
            await self._pause(self.dice.uniform(15, 30))
            worker = self.dice.choice(workers)
            kind = self.dice.choice(("killed", "stopped", "paused"))
            self.faults[f"workers {kind}"] += 1
            if kind == "paused":
                await worker.pause(self.dice.uniform(*_PAUSES_S))
            else:
                await worker.end(kill=kind == "killed")

    async def _paused(self, send_signal: Callable[[signal.Signals], None]) -> None:
        send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self.dice.uniform(*_PAUSES_S))  # as long as the pause lasts
        finally:
            send_signal(signal.SIGCONT)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()


@asynccontextmanager
async def _stream(port: int, cursor: str) -> AsyncGenerator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    resume = f"Last-Event-ID: {cursor}\r\n" if cursor else ""
    where = PATH if cursor else f"{PATH}?from=earliest"
    writer.write(
        f"GET {where} HTTP/1.1\r\nHost: localhost\r\n"
        f"Accept: text/event-stream\r\n{resume}\r\n".encode()
    )
    try:
        yield reader
    finally:
        writer.transport.abort()


async def run(minutes: float, clients: int, rate: float, seed: int) -> bool:
    """Run it; whether the account balances."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        broker = prepare(path / "kafka", free_port(), maven_url=InfraSettings().maven_url)
        kafka = TestKafka(broker.bootstrap_servers, broker, path / "kafka.log")
        await asyncio.to_thread(kafka.start)
        prefix = f"s{uuid.uuid4().hex[:6]}."
        await asyncio.to_thread(provision, kafka.bootstrap_servers, prefix=prefix)
        try:
            async with AsyncExitStack() as stack:
                world = World(kafka, prefix, path, stack)
                soak = Soak(world, random.Random(seed), rate)
                await soak.start_edges()
                accounts = [Account() for _ in range(clients)]
                reader = TopicReader(world, "risk.measures", "risk.alerts")
                returns = ReturnsFlow(
                    world, await stack.enter_async_context(reader), _RETURNS_PACE_S
                )
                letters = await stack.enter_async_context(TopicReader(world, "dead.letters"))
                stranger = Stranger(world, letters, soak.dice)
                await _take_part(soak, returns, stranger, accounts, minutes)
        finally:
            kafka.stop(signal.SIGKILL)
    return _balance(soak, returns.account(), stranger, accounts)


async def _take_part(
    soak: Soak, returns: ReturnsFlow, stranger: Stranger, accounts: list[Account], minutes: float
) -> None:
    workers = [KeptWorker(soak.world, name) for name in ("one", "two")]
    async with asyncio.TaskGroup() as tasks:
        kept = [tasks.create_task(worker.run()) for worker in workers]
        following = [tasks.create_task(soak.follow(account)) for account in accounts]
        reading = tasks.create_task(returns.read())
        sending = tasks.create_task(returns.send_while(lambda: not soak.over.is_set()))
        annoying = tasks.create_task(stranger.write_while(lambda: not soak.over.is_set()))
        for worker in workers:
            await worker.ready()
        faults = [
            tasks.create_task(soak.trouble_edges()),
            tasks.create_task(soak.trouble_broker()),
            tasks.create_task(soak.trouble_workers(workers)),
        ]
        await soak.produce(minutes * 60)
        soak.over.set()
        await asyncio.wait([*faults, sending, annoying])
        with suppress(TimeoutError):  # what they lack is seen in the account
            async with asyncio.timeout(_PATIENCE_S):
                await returns.measured_until(returns.days)
                await asyncio.wait(following)
        await stranger.set_aside(_PATIENCE_S)
        for task in (*following, *kept, reading):
            task.cancel()


def _balance(
    soak: Soak, flows: Sequence[Flow], stranger: Stranger, accounts: list[Account]
) -> bool:
    produced = sum(soak.produced.values())
    totals = {
        name: sum(getattr(account, name) for account in accounts)
        for name in ("delivered", "lost", "repeated", "out_of_order", "gaps", "resumes")
    }
    expected = produced * len(accounts)
    print(", ".join(f"{count} {what}" for what, count in sorted(soak.faults.items())))
    print(f"produced      {produced:>12,}")
    print(f"clients       {len(accounts):>12,}   resumed {totals['resumes']:,} times")
    print(f"delivered     {totals['delivered']:>12,}   of {expected:,}")
    for name in ("lost", "repeated", "out_of_order", "gaps"):
        print(f"{name.replace('_', ' '):<13} {totals[name]:>12,}")
    for flow in flows:
        print(
            f"{flow.name:<13} {flow.delivered:>12,}   as without faults, of {flow.expected:,}; "
            f"lost {flow.lost:,}, repeated {flow.repeated:,}, out of order {flow.out_of_order:,}"
        )
    reasons = Counter(stranger.written.values())
    print(
        f"strangers'    {reasons.total():>12,}   records, each refused once: "
        f"{', '.join(f'{count:,} {reason}' for reason, count in reasons.most_common())}; "
        f"lost {stranger.lost:,}, repeated {stranger.repeated:,}, "
        f"unconfirmed {stranger.unconfirmed:,}"
    )
    faults = totals["lost"] + totals["repeated"] + totals["out_of_order"] + totals["gaps"]
    faults += sum(flow.lost + flow.repeated + flow.out_of_order for flow in flows)
    faults += stranger.lost + stranger.repeated
    faults += sum(abs(flow.expected - flow.delivered) for flow in flows)
    return bool(faults == 0 and totals["delivered"] == expected)


def main() -> None:
    """Soak, and print the account."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--rate", type=float, default=400.0, help="events a second")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    if not asyncio.run(run(arguments.minutes, arguments.clients, arguments.rate, arguments.seed)):
        sys.exit("the account does not balance")


if __name__ == "__main__":
    main()
