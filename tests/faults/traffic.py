"""Traffic for scenes of faults: returns that workers measure, and events that clients follow.

It flows until the scene ends. Then the measures and alerts must be those of a straight run, and
every client must have had every number once and in order.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from infra.errors import PartFailed
from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from producers.returns import ReturnsPublisher
from schemas.events import Return, RiskAlert, RiskMeasure
from tests.conftest import Started, World
from tests.faults.report import Flow, SceneReport
from tests.soak import Account, Soak
from tests.support.straight_run import (
    TopicReader,
    assert_as_straight,
    endless_days,
    meaning,
    straight_run,
)

GOES_ON_WITHIN_S = 120.0
"""A bound for a busy machine; the account has the seconds that were measured."""
_CLIENTS = 4
_EVENTS_PER_S = 36.0
_DAYS_AT_ONCE = 3
_PACE_S = 0.25
"""The pause between two sends of returns."""
_PATIENCE_S = 600.0
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


class KeptWorker:
    """A worker that is started again whenever it ends, as its supervisor would do."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._started: Started | None = None
        self._running = asyncio.Event()
        self._is_ending = False
        self.ends: list[str] = []
        """The last line of the log for each time that it ended without being asked to."""

    async def run(self) -> None:
        """Keep it running until cancelled."""
        while True:
            try:
                self._started = await self._world.worker(
                    worker_id=self._name, batch_within_s=0.05, batch_records_max=5
                )
            except PartFailed as error:
                self.ends.append(str(error))
                continue
            self._running.set()
            await self._started.process.ended()
            self._running.clear()
            if not self._is_ending:
                self.ends.append(self._started.process.last_lines()[-1])
            self._is_ending = False

    async def ready(self) -> Started:
        """Wait until it runs."""
        await self._running.wait()
        assert self._started is not None
        return self._started

    async def end(self, *, kill: bool) -> None:
        """End it, in order or not."""
        started = await self.ready()
        self._is_ending = True
        await (started.kill() if kill else started.stop())

    async def pause(self, seconds: float) -> None:
        """Stop it from running for a time."""
        process = (await self.ready()).process
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)  # as long as the pause lasts
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)


class Traffic:
    """Both flows, and what has come of them so far."""

    def __init__(
        self, world: World, report: SceneReport, reader: TopicReader, workers: Sequence[KeptWorker]
    ) -> None:
        self.workers = workers
        self.soak = Soak(world, random.Random(1), _EVENTS_PER_S)
        self.report = report
        self._world = world
        self._reader = reader
        self._days: list[list[Return]] = []
        """The returns that were sent, day by day."""
        self._measured: dict[str, int] = {}
        """The instant of each portfolio's last measure."""
        self._changed = asyncio.Event()
        self._accounts = [WatchedAccount(self._changed) for _ in range(_CLIENTS)]
        self._is_over = False

    async def send_returns(self) -> None:
        """Send some trading days after another."""
        settings = ProducerSettings(
            bootstrap_servers=self._world.kafka.bootstrap_servers,
            topic_prefix=self._world.prefix,
            patience_s=_PATIENCE_S,
        )
        async with Publisher(settings) as publisher:
            returns = ReturnsPublisher(publisher)
            days = endless_days()
            while not self._is_over:
                batch = [next(days).at_close() for _ in range(_DAYS_AT_ONCE)]
                self._days += batch
                await returns.send([item for day in batch for item in day])
                await asyncio.sleep(_PACE_S)

    async def send_events(self) -> None:
        """Send numbered events of some tasks."""
        await self.soak.produce_while(lambda: not self._is_over)

    async def read(self) -> None:
        """Read measures and alerts as they come."""
        while True:
            for record in await self._reader.poll():
                if isinstance(record, RiskMeasure):
                    self._measured[record.portfolio_id] = record.as_of_us
            self._changed.set()

    async def goes_on(self, within_s: float = GOES_ON_WITHIN_S) -> tuple[float, float]:
        """Wait until both flows deliver what is sent from now on.

        Returns:
            The times at which workers had measured it, and clients had received it.
        """
        # The numbers that are on their way now may be of the time before.
        numbers = Counter({task: number + 1 for task, number in self.soak.produced.items()})
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
            workers = tasks.create_task(self.workers_go_on(within_s))
            clients = tasks.create_task(self._clients_until(numbers))
        return workers.result(), clients.result()

    async def workers_go_on(self, within_s: float = GOES_ON_WITHIN_S) -> float:
        """Wait until workers have measured what is sent from now on; return the time."""
        async with asyncio.timeout(within_s):
            return await self._measures_until(len(self._days) + _DAYS_AT_ONCE)

    @property
    def received(self) -> int:
        """The number of events that clients have had."""
        return sum(account.delivered for account in self._accounts)

    @property
    def position(self) -> tuple[dict[str, int], Counter[str]]:
        """The last measures and the acknowledged events."""
        return dict(self._measured), Counter(self.soak.produced)

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
        await self._measures_until(len(self._days))

    def check(self) -> None:
        """Report what was found, and compare it with what was sent."""
        measures, alerts = straight_run(len(self._days))
        self._report_measures(measures)
        found = [item for item in self._reader.records if isinstance(item, RiskAlert)]
        steps = Counter(alert.transition_id for alert in found)
        lost = len({alert.transition_id for alert in alerts} - steps.keys())
        twice = len(found) - len(steps)
        self.report.flow(Flow("alerts", len(alerts), len(found), lost, twice, 0))
        sent = self.soak.produced.total()
        names = "delivered", "lost", "repeated", "out_of_order"
        had = [sum(getattr(account, name) for account in self._accounts) for name in names]
        self.report.flow(Flow("events at clients", sent * len(self._accounts), *had))
        assert_as_straight(self._reader.records, measures, alerts)
        assert twice == 0
        for account in self._accounts:
            assert account.delivered == sent
            assert account.lost == account.repeated == account.out_of_order == account.gaps == 0

    def _report_measures(self, expected: dict[tuple[str, int], RiskMeasure]) -> None:
        found = [item for item in self._reader.records if isinstance(item, RiskMeasure)]
        right, late = 0, 0
        last: dict[str, int] = {}
        for measure in found:
            right += meaning(measure) == meaning(expected[measure.portfolio_id, measure.as_of_us])
            late += measure.as_of_us < last.get(measure.portfolio_id, 0)
            last[measure.portfolio_id] = measure.as_of_us
        ends: dict[str, int] = {}
        for name, at in expected:
            ends[name] = max(at, ends.get(name, 0))
        lost = len(ends.items() - last.items())
        repeated = len(found) - len({(item.portfolio_id, item.as_of_us) for item in found})
        self.report.flow(Flow("measures", len(found), right, lost, repeated, late))

    async def _measures_until(self, days: int) -> float:
        """Wait until the returns of the first days are measured; return the time."""
        return await self._until(
            lambda: (
                len(self._days) >= days
                and all(
                    self._measured.get(item.portfolio_id, 0) >= item.event_time_us
                    for item in self._days[days - 1]
                )
            )
        )

    async def _clients_until(self, numbers: Counter[str]) -> float:
        """Wait until all clients have had a number of each task; return the time."""
        return await self._until(
            lambda: all(
                account.had.get(task, -1) >= number
                for account in self._accounts
                for task, number in numbers.items()
            )
        )

    async def _until(self, is_done: Callable[[], bool]) -> float:
        while not is_done():
            self._changed.clear()
            await self._changed.wait()
        return time.monotonic()


@asynccontextmanager
async def traffic(
    world: World,
    report: SceneReport,
    *,
    workers: Mapping[str, World] | None = None,
    edges_in: World | None = None,
) -> AsyncGenerator[Traffic]:
    """Let traffic flow for as long as the block lasts, then compare what has come of it.

    Args:
        world: where senders and the reader of the results are.
        report: takes the figures.
        workers: the workers by name, each with the world that it uses; None for two workers.
        edges_in: the world that edges use, if not that of the senders.
    """
    workers = workers or {"one": world, "two": world}
    kept = [KeptWorker(its_world, name) for name, its_world in workers.items()]
    async with (
        TopicReader(world, "risk.measures", "risk.alerts") as reader,
        asyncio.TaskGroup() as tasks,
    ):
        flows = Traffic(world, report, reader, kept)
        running = [tasks.create_task(worker.run()) for worker in kept]
        edges = [await (edges_in or world).edge(ping_s=1, metadata_s=1) for _ in range(2)]
        for worker in kept:
            await worker.ready()
        running.append(tasks.create_task(flows.read()))
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
