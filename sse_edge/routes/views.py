"""The tables of a node: the last state of every task, job, portfolio, alert, book and so on.

`Views` owns the tables and follows their compacted topics; each is read only after its first use.
Routes read the tables themselves. The delivery core asks two questions of them (see `Lookups` in
`sse_edge.delivery.node`) and imports no event class.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Protocol, cast
from weakref import WeakValueDictionary

from fastapi import Depends
from starlette.requests import HTTPConnection

from schemas.events import (
    BacktestProgress,
    Book,
    BookRisk,
    CandleState,
    EdgeNode,
    JobState,
    NotificationRoute,
    OpenAlert,
    RiskHistory,
    RiskLimits,
    RiskMeasure,
    Scenario,
    StoryState,
    StreamRenewal,
    TrainingProgress,
)
from schemas.topics import (
    BACKTEST_EVENTS,
    BACKTEST_JOBS,
    EDGE_NODES,
    EDGE_RENEWALS,
    FOR_EVER_MS,
    MARKET_FORMING,
    NOTIFICATION_ROUTES,
    RISK_BOOK_RISKS,
    RISK_BOOKS,
    RISK_HISTORY,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_SCENARIOS,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    Topic,
)
from sse_edge.cache.table_rows import S
from sse_edge.cache.table_view import TableView
from sse_edge.cache.tail import Tail
from sse_edge.delivery.node import FinalEvent
from sse_edge.log.protocol import Log
from sse_edge.routes.accepted import AcceptedRuns, first_job_state, first_task_state
from sse_edge.routes.latest_jobs import LatestJobs
from sse_edge.settings import EdgeSettings
from sse_edge.streams.channels import CHANNELS


class EntityState(Protocol):
    """A state of an entity whose events end, such as a task's or a job's."""

    @property
    def ended(self) -> bool:
        """Whether the entity has ended."""
        ...

    @property
    def partition(self) -> int:
        """The partition of the entity's events."""
        ...

    @property
    def last_offset(self) -> int:
        """The offset of the entity's last event."""
        ...


class Views:
    """The tables that one node keeps in memory."""

    def __init__(self, log: Log, settings: EdgeSettings, tail: Tail) -> None:
        """Make the tables; `run` reads them.

        Args:
            log: where the tables are read from.
            settings: the topics' prefix, and how long a caller waits for a table.
            tail: knows how many partitions a topic has.
        """
        self.settings = settings
        self._log = log
        self._tail = tail
        self._tables: dict[Topic, TableView[Any]] = {}
        self.tasks = self._view(TRAINING_TASKS, StoryState)
        self.jobs = self._view(BACKTEST_JOBS, JobState)
        self.latest_jobs = LatestJobs(log, *self._events(BACKTEST_EVENTS), self.jobs)
        self._accepted_jobs = AcceptedRuns(
            log,
            *self._events(BACKTEST_EVENTS),
            BacktestProgress,
            self.jobs,
            first_job_state,
            settings.broker_patience_s,
            settings.tenant,
        )
        self._accepted_tasks = AcceptedRuns(
            log,
            *self._events(TRAINING_EVENTS),
            TrainingProgress,
            self.tasks,
            first_task_state,
            settings.broker_patience_s,
            settings.tenant,
        )
        self.limits = self._view(RISK_LIMITS, RiskLimits)
        self.scenarios = self._view(RISK_SCENARIOS, Scenario)
        self._scenario_writes: WeakValueDictionary[str | None, asyncio.Lock] = WeakValueDictionary()
        self.open_alerts = self._view(RISK_OPEN, OpenAlert)
        self.measures = self._view(RISK_MEASURES, RiskMeasure)
        self.histories = self._view(RISK_HISTORY, RiskHistory)
        self.books = self._view(RISK_BOOKS, Book)
        self.book_risks = self._view(RISK_BOOK_RISKS, BookRisk)
        self.notification_routes = self._view(NOTIFICATION_ROUTES, NotificationRoute)
        self.renewals = self._view(EDGE_RENEWALS, StreamRenewal)
        self.edges = self._view(EDGE_NODES, EdgeNode)
        self.candles = self._view(MARKET_FORMING, CandleState)
        for channel in CHANNELS.values():
            states = channel.entity_states
            if states is not None and states not in self._tables:
                self._view(states, states.record)

    def scenario_writes(self, tenant: str | None) -> asyncio.Lock:
        """Return the lock that is held while a tenant's scenario is computed and written.

        Its versions are counted. Other tenants do not wait for it: past returns take a while.
        """
        return self._scenario_writes.setdefault(tenant, asyncio.Lock())

    async def run(self) -> None:
        """Follow the tables' topics until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for table in self._tables.values():
                tasks.create_task(table.run())

    def renewed_until_s(self, challenge: str) -> float | None:
        """Return when the token that answered a challenge expires; None while there is none."""
        renewal = self.renewals.last(challenge)
        return None if renewal is None else renewal.expires_us / 1e6

    def final_event(
        self, states: Topic, entity: str, tenant: str | None = None
    ) -> FinalEvent | None:
        """Return where an entity's last event is in the log; None until the entity has ended.

        Args:
            states: the topic of the entities' states, as a channel's row names it.
            entity: the entity's id.
            tenant: the entity's tenant; "" for none, None for any.
        """
        state: EntityState | None = self._tables[states].last(entity, tenant)
        if state is None or not state.ended:
            return None
        return FinalEvent(state.partition, state.last_offset)

    async def ending_of(
        self, states: Topic, entity: str, tenant: str | None = None
    ) -> FinalEvent | None:
        """Return what `final_event` does, once the table is read.

        Raises:
            LogUnavailable: the table could not be read in time.
        """
        await self._tables[states].complete()
        return self.final_event(states, entity, tenant)

    async def ended(self, states: Topic, entity: str, tenant: str | None = None) -> None:
        """Wait until an entity has ended; see `final_event`."""
        table = self._tables[states]
        while self.final_event(states, entity, tenant) is None:
            await table.changed_since(table.version)

    async def find_job(self, job_id: str, tenant: str | None) -> JobState | None:
        """Return a job's state, also where no processor has processed the job yet.

        Args:
            job_id: the job.
            tenant: the job's tenant; "" for none, None for any.

        Raises:
            LogUnavailable: the table or the log could not be read in time.
        """
        return await self._accepted_jobs.find(job_id, self.settings.processor_patience_s, tenant)

    async def find_task(self, task_id: str, tenant: str | None) -> StoryState | None:
        """Return a training task's state, also where no processor has processed the task yet.

        Args:
            task_id: the task.
            tenant: the task's tenant; "" for none, None for any.

        Raises:
            LogUnavailable: the table or the log could not be read in time.
        """
        return await self._accepted_tasks.find(task_id, self.settings.processor_patience_s, tenant)

    async def running_tasks(self, states: Sequence[StoryState]) -> Sequence[StoryState]:
        """Return the states of tasks that have not ended, and whose events can be in the log."""
        return [
            state
            for state in states
            if not state.ended and await self._accepted_tasks.is_placed(state)
        ]

    def _events(self, topic: Topic) -> tuple[str, Callable[[], Awaitable[int]]]:
        """Return a topic's full name, and what returns the number of its partitions."""
        name = self.settings.topic_prefix + topic.name

        async def partitions() -> int:
            return (await self._tail.topic(name)).info.partitions

        return name, partitions

    def _view(self, topic: Topic, kind: type[S]) -> TableView[S]:
        name = self.settings.topic_prefix + topic.name
        patience_s = self.settings.broker_patience_s
        table = TableView(
            self._log,
            name,
            kind,
            None if topic.retention_ms == FOR_EVER_MS else topic.retention_ms,
            patience_s,
            also=topic.also,
            ahead_us=self.settings.ahead_s * 1_000_000,
        )
        self._tables[topic] = table
        return table


def views_of(connection: HTTPConnection) -> Views:
    """Return the tables of the node that serves a request."""
    return cast("Views", connection.app.state.views)


ViewsDep = Annotated[Views, Depends(views_of)]
