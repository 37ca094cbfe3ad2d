"""Traffic for scenes of faults: returns that workers measure, and events that clients follow.

It flows until the scene ends. Then the measures and alerts must be those of a straight run, and
every client must have had every number once and in order.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from tests.conftest import Started, World
from tests.faults.report import Flow, SceneReport
from tests.soak import Account, Soak
from tests.support.kept_worker import KeptWorker
from tests.support.returns_flow import DAYS_AT_ONCE, ReturnsFlow
from tests.support.straight_run import TopicReader

GOES_ON_WITHIN_S = 120.0
"""A bound for a busy machine; the account has the seconds that were measured."""
_CLIENTS = 4
_EVENTS_PER_S = 36.0
_PACE_S = 0.25
"""The pause between two sends of returns."""
_STAYS_S = 900.0
"""How long a client stays connected: longer than any scene."""


class WatchedAccount(Account):
    """A client's account that reports its changes."""

    def __init__(self, changed: asyncio.Event) -> None:
        super().__init__()
        self._changed = changed

    def take(self, block: bytes) -> None:
        super().take(block)
        self._changed.set()


class Traffic:
    """Both flows, and what has come of them so far."""

    def __init__(
        self,
        world: World,
        report: SceneReport,
        reader: TopicReader,
        workers: Sequence[KeptWorker],
        pace_s: float,
    ) -> None:
        self.workers = workers
        self.soak = Soak(world, random.Random(1), _EVENTS_PER_S)
        self.report = report
        self.returns = ReturnsFlow(world, reader, pace_s)
        self._accounts = [WatchedAccount(self.returns.changed) for _ in range(_CLIENTS)]
        self._is_over = False

    async def send_returns(self) -> None:
        """Send some trading days after another."""
        await self.returns.send_while(lambda: not self._is_over)

    async def send_events(self) -> None:
        """Send numbered events of some tasks."""
        await self.soak.produce_while(lambda: not self._is_over)

    async def goes_on(self, within_s: float = GOES_ON_WITHIN_S) -> tuple[float, float]:
        """Wait until both flows deliver what is sent from now on.

        Returns:
            The times at which workers had measured it, and clients had received it.
        """
        # The numbers that are on their way now may be of the time before.
        numbers = Counter({task: number + 1 for task, number in self.soak.produced.items()})
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
            workers = tasks.create_task(
                self.returns.measured_until(self.returns.days + DAYS_AT_ONCE)
            )
            clients = tasks.create_task(self._clients_until(numbers))
        return workers.result(), clients.result()

    @property
    def received(self) -> int:
        """The number of events that clients have had."""
        return sum(account.delivered for account in self._accounts)

    @property
    def position(self) -> tuple[dict[str, int], Counter[str]]:
        """The last measures and the acknowledged events."""
        return dict(self.returns.measured), Counter(self.soak.produced)

    async def follow(self, edges: Sequence[Started]) -> None:
        """Follow the events at the edges with all clients, until they have had everything."""
        self.soak.ports += [int(edge.url.rsplit(":", 1)[1]) for edge in edges]
        async with asyncio.TaskGroup() as tasks:
            for account in self._accounts:
                tasks.create_task(self.soak.follow(account, stays=(_STAYS_S,)))

    def end(self) -> None:
        """Send nothing more."""
        self._is_over = True

    async def finish(self) -> None:
        """Wait until clients and workers have had everything."""
        self.soak.over.set()
        await self.returns.measured_until(self.returns.days)

    def check(self) -> None:
        """Report what was found, and compare it with what was sent."""
        for flow in self.returns.account():
            self.report.flow(flow)
        sent = self.soak.produced.total()
        names = "delivered", "lost", "repeated", "out_of_order"
        had = [sum(getattr(account, name) for account in self._accounts) for name in names]
        self.report.flow(Flow("events at clients", sent * len(self._accounts), *had))
        self.returns.check()
        for account in self._accounts:
            assert account.delivered == sent
            assert account.lost == account.repeated == account.out_of_order == account.gaps == 0

    async def _clients_until(self, numbers: Counter[str]) -> float:
        """Wait until all clients have had a number of each task; return the time."""
        while any(
            account.had.get(task, -1) < number
            for account in self._accounts
            for task, number in numbers.items()
        ):
            self.returns.changed.clear()
            await self.returns.changed.wait()
        return time.monotonic()


@asynccontextmanager
async def traffic(
    world: World,
    report: SceneReport,
    *,
    workers: Mapping[str, World] | None = None,
    edges_in: World | None = None,
    pace_s: float = _PACE_S,
) -> AsyncGenerator[Traffic]:
    """Let traffic flow for as long as the block lasts, then compare what has come of it.

    Args:
        world: where senders and the reader of the results are.
        report: takes the figures.
        workers: the workers by name, each with the world that it uses; None for two workers.
        edges_in: the world that edges use, if not that of the senders.
        pace_s: the pause between two sends of returns. Their days must not reach the present.
    """
    workers = workers or {"one": world, "two": world}
    kept = [KeptWorker(its_world, name) for name, its_world in workers.items()]
    async with (
        TopicReader(world, "risk.measures", "risk.alerts") as reader,
        asyncio.TaskGroup() as tasks,
    ):
        flows = Traffic(world, report, reader, kept, pace_s)
        running = [tasks.create_task(worker.run()) for worker in kept]
        edges = [await (edges_in or world).edge(ping_s=1, metadata_s=1) for _ in range(2)]
        for worker in kept:
            await worker.ready()
        running.append(tasks.create_task(flows.returns.read()))
        following = tasks.create_task(flows.follow(edges))
        sending = [tasks.create_task(flows.send_returns()), tasks.create_task(flows.send_events())]
        await flows.goes_on()
        yield flows
        flows.end()
        await asyncio.wait(sending)
        async with asyncio.timeout(GOES_ON_WITHIN_S):
            await flows.finish()
            await asyncio.wait([following])
            for worker in kept:
                await worker.ready()
        for task in running:
            task.cancel()
    for worker, name in zip(kept, workers, strict=True):
        for reason in worker.ends:
            report.fault(f"worker {name} ended by itself: {reason[:120]}")
    flows.check()
