"""`tapewire rebuild`: computes measures and alerts again from the beginning of the log.

A separate worker reads the whole log and writes to topics of its own, `VERSION.risk.measures` and
so on; another one does so for books. When both have caught up, the differences are printed, and the
running workers continue from the result, partition by partition. Clients then receive the measures
that changed, the end of alerts that should not exist, and the alerts that should.

Where the topics were copied from another cluster, no worker runs: each refuses the positions of the
other cluster. The result is compared with the states, and does not replace them, since its alerts
may have other ids. The positions are replaced by those of the same records in the copy.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cli.errors import RebuildFailed
from cli.log_beginning import check_beginning, missing_of_books
from infra.errors import PartFailed
from infra.modules import module_name
from infra.supervisor import Part, Process
from infra.topics import provision, wait_for_kafka
from kafka_io.clock import now_us
from kafka_io.erasures import read_erasures
from kafka_io.errors import ProducerError, Unread
from kafka_io.operators import operator
from kafka_io.publisher import Publisher
from kafka_io.reader import Ends, count_uncommitted, read_end_offsets, read_keyed, read_table
from kafka_io.settings import ProducerSettings
from schemas.erasures import Erasures
from schemas.events import (
    AlertTransition,
    BookRisk,
    EntityType,
    PortfolioState,
    RebuildDone,
    Record,
    RiskAlert,
    RiskMeasure,
)
from schemas.keys import decode_key
from schemas.topics import (
    DASHBOARD_TALLIES,
    DEAD_LETTERS,
    PARTITIONS,
    PORTFOLIO_RETURNS,
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    RISK_HISTORY,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_REBUILDS,
    RISK_SCENARIOS,
    RISK_SERIES,
    RISK_STATE,
    RISK_WANTED,
    Topic,
)
from stream_processors.agents.books import ORDERED as ORDERED_OF_BOOKS
from stream_processors.copied_topics import (
    CopiedPositions,
    adopt,
    find_copied,
    have_grown_elsewhere,
)
from stream_processors.errors import TopicsCopied
from stream_processors.growths import partitions_of
from stream_processors.kafka_adapter import BOOKS_GROUP, GROUP, read_growths
from stream_processors.risk.rules import STALE
from stream_processors.risk.scope import Scope

_READ = (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS, RISK_WANTED, RISK_SCENARIOS)
_WRITTEN = (
    RISK_MEASURES,
    RISK_HISTORY,
    RISK_ALERTS,
    RISK_OPEN,
    RISK_STATE,
    RISK_SERIES,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    DASHBOARD_TALLIES,
    DEAD_LETTERS,
    PROCESSOR_POSITIONS,
)
_KAFKA_S = 5.0
_LOOK_EVERY_S = 1.0
_DEATHS_MAX = 20
"""How often the worker is started again after a signal has ended it. A message that kills it is set
aside after four deaths, as `stream_processors.deaths` describes."""
_TAKEN_OVER_WITHIN_S = 60.0
_EQUAL, _DIFFERENT = "equal", "different"
_OTHER_INSTANTS = "of other instants"
"""Returns arrived between the two readings, so these measures cannot be compared."""
_ONLY_BEFORE, _ONLY_NOW = "only before", "only now"
_ADOPTED = (
    "adopted: the states of the other cluster go on at the same records of the copies; start the "
    "processors"
)
_NOT_ADOPTED = "not adopted: processors refuse to start as before"
_NOT_SWITCHED = "not switched: the running workers continue as before"
_PASSES = 2
"""The log grows during a pass; the second pass reads only what was written during the first."""

_ALL = Scope()

Say = Callable[[str], None]
Report = Callable[[int, int], None]
"""Takes how many records are read, and how many there are."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The differences between two computations of the same past."""

    measures: Mapping[str, int]
    """Portfolios by their last measures: equal, different, or only in one."""
    alerts: Mapping[str, int]
    """Transitions of alerts: in both, or only in one."""
    open_alerts: Mapping[str, int] = field(default_factory=dict)
    """Open alerts by id, level, acknowledgement and number of transitions: equal, different, or
    only in one."""
    books: Mapping[str, int] = field(default_factory=dict)
    """Books by their last measures: equal, different, or only in one."""

    @property
    def is_none(self) -> bool:
        """Whether both computations agree."""
        return not (
            self.changed_measures
            or self.changed_books
            or self.changed_alerts
            or self.alerts[_ONLY_BEFORE]
            or self.alerts[_ONLY_NOW]
        )

    @property
    def changed_alerts(self) -> int:
        """The number of open alerts that are otherwise, or are in only one."""
        return _changed(self.open_alerts)

    @property
    def changed_measures(self) -> int:
        """The number of portfolios whose last measure is another one, or is in only one."""
        return _changed(self.measures)

    @property
    def changed_books(self) -> int:
        """The number of books whose last measure is another one, or is in only one."""
        return _changed(self.books)


def _changed(counts: Mapping[str, int]) -> int:
    return sum(counts.get(name, 0) for name in (_DIFFERENT, _ONLY_BEFORE, _ONLY_NOW))


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The result of a rebuild."""

    version: str
    difference: Difference
    is_switched: bool
    """Whether the running workers continue from the result."""
    measures: str
    """The topic of the recomputed measures."""
    alerts: str
    """The topic of the recomputed alerts."""

    def as_json(self) -> dict[str, Any]:
        """Return the result for a program."""
        return {
            "version": self.version,
            "switched": self.is_switched,
            "measures": dict(self.difference.measures),
            "books": dict(self.difference.books),
            "open_alerts": dict(self.difference.open_alerts),
            "alert_steps": dict(self.difference.alerts),
            "topics": {"measures": self.measures, "alerts": self.alerts},
        }


@dataclass(frozen=True, slots=True)
class Terminal:
    """Shows the user the progress of a rebuild and its result, and asks before the switch."""

    say: Say
    """Prints a line."""
    agrees: Callable[[], bool] = lambda: True
    """Whether the running workers shall continue from the result; asked after the comparison."""
    reading: AbstractContextManager[Report] = field(
        default_factory=lambda: nullcontext(lambda _done, _total: None)
    )
    """Shows how much is read."""


async def rebuild(
    settings: ProducerSettings,
    version: str,
    folder: Path,
    terminal: Terminal,
    *,
    switch: bool,
    scope: Scope = _ALL,
    env: Mapping[str, str] | None = None,
) -> Rebuilt:
    """Compute everything again, print the differences, and let running workers continue from it.

    Args:
        settings: where Kafka is.
        version: the prefix, with a dot, of the topics that are written.
        folder: the folder of the worker's log file.
        terminal: shows the progress and the differences, and asks before the switch.
        switch: whether the running workers continue from the result, if the user agrees.
        scope: the portfolios that are computed.
        env: the worker's settings, in addition to this process's.

    Raises:
        RebuildFailed: the version exists, the log has less than the present states, topics are
            growing, the worker died, no running worker took over, copied topics did not keep the
            times of records, or Kafka became unavailable.
        InfraError: Kafka is unavailable, or refused a topic.
    """
    prefix = f"{settings.topic_prefix}{version}."
    await asyncio.to_thread(wait_for_kafka, settings.bootstrap_servers, within_s=_KAFKA_S)
    count = await _check_growths(settings)
    copied, has_grown = await _check_log(settings, count, scope)
    if has_grown:
        is_adopted = await _adopt_grown(settings, copied, terminal, switch=switch)
        return _rebuilt(prefix, version, Difference({}, {}), is_switched=is_adopted)
    with_books = await _can_rebuild_books(settings, scope, copied, terminal)
    servers = settings.bootstrap_servers
    erased = await _read_erasures(settings)
    written = _grown(_WRITTEN, count)
    made = await asyncio.to_thread(provision, servers, prefix=prefix, topics=written)
    if len(made) < len(_WRITTEN):
        # Its worker would continue where the earlier one stopped, with other settings.
        raise RebuildFailed(f"a rebuild {version} exists already; choose another name")
    where = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": settings.topic_prefix,
        "TAPEWIRE_REBUILD_VERSION": version,
        "TAPEWIRE_REBUILD_PORTFOLIO": scope.portfolio_id,
        "TAPEWIRE_REBUILD_ERASED": str(erased),
    }
    if scope.tenant is not None:
        where["TAPEWIRE_REBUILD_TENANT"] = scope.tenant
    where |= env or {}
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    workers = [_Worker(f"rebuild-{version}", folder, where, GROUP, _READ)]
    if with_books:
        of_books = {**where, "TAPEWIRE_REBUILD_BOOKS": "true"}
        name = f"rebuild-{version}-books"
        workers.append(_Worker(name, folder, of_books, BOOKS_GROUP, ORDERED_OF_BOOKS))
    try:
        for worker in workers:
            await worker.process.start()
        await _caught_up(workers, prefix, count, settings, terminal.reading)
        difference = await compare(
            settings, version, scope, are_copies=bool(copied), with_books=with_books
        )
        for line in lines_of(difference):
            terminal.say(line)
        is_switched = switch and terminal.agrees()
        result = _rebuilt(prefix, version, difference, is_switched=is_switched)
        terminal.say(await _go_on(settings, result, count, copied))
    except (ProducerError, TimeoutError) as error:
        raise RebuildFailed(f"Kafka became unavailable: {error!r}") from error
    finally:
        for worker in workers:
            await worker.process.stop()
    return result


async def _go_on(
    settings: ProducerSettings, result: Rebuilt, count: int, copied: Sequence[CopiedPositions]
) -> str:
    """Let workers go on from a result, or from copied states, if the user agreed; say which."""
    if not result.is_switched:
        kept = _NOT_ADOPTED if copied else _NOT_SWITCHED
        return f"{kept}; the results are in {result.measures} and {result.alerts}"
    await _check_count(settings, count)
    if copied:
        await _adopt(settings, copied)
        return adopted_text(result.difference, result.version)
    await _switch(settings, result.version, count)
    return f"switched: {in_words(result.difference, result.version)}"


def _rebuilt(prefix: str, version: str, difference: Difference, *, is_switched: bool) -> Rebuilt:
    return Rebuilt(
        version,
        difference,
        is_switched,
        f"{prefix}{RISK_MEASURES.name}",
        f"{prefix}{RISK_ALERTS.name}",
    )


class _Worker:
    """A worker of a rebuild, which is started again when a signal ends it."""

    def __init__(
        self, name: str, folder: Path, env: Mapping[str, str], group: str, topics: Sequence[Topic]
    ) -> None:
        """Describe a worker.

        Args:
            name: its name, and that of its log file.
            folder: the folder of the log file.
            env: its settings.
            group: its group, without the prefix of topics.
            topics: the topics that it reads.
        """
        command = sys.executable, "-m", module_name("stream_processors")
        self.process = Process(Part(name, command, env), folder / f"{name}.log")
        self.group, self.topics = group, topics
        self._deaths = 0

    async def keep(self, within_s: float) -> None:
        """Let it run for some time; start it again if it ends meanwhile.

        Raises:
            RebuildFailed: it has ended by itself, or too often.
        """
        process = self.process
        try:
            async with asyncio.timeout(within_s):
                code = await process.ended()
        except TimeoutError:
            return
        self._deaths += 1
        if code >= 0 or self._deaths > _DEATHS_MAX:
            output = "\n".join(process.last_lines())
            raise RebuildFailed(f"the worker ended with exit code {code}:\n{output}")
        with suppress(PartFailed):  # it has ended once more, before it was ready
            await process.start()


async def compare(
    settings: ProducerSettings,
    version: str,
    scope: Scope = _ALL,
    *,
    are_copies: bool = False,
    with_books: bool = False,
) -> Difference:
    """Compare present and recomputed measures and alerts, as of the same times.

    Args:
        settings: where Kafka is.
        version: the version of the recomputed ones.
        scope: the portfolios.
        are_copies: whether the topics are copies, in which alerts may get other ids. They are
            compared by what they say then, and without acknowledgements, which name the ids.
        with_books: whether books were rebuilt, too.

    Raises:
        Unread: Kafka cannot be read.
    """
    anew = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}{version}."})
    tenant = scope.tenant
    before = _measures(await read_table(RISK_MEASURES, settings, tenant), scope)
    after = _measures(await read_table(RISK_MEASURES, anew, tenant), scope)
    measures = Counter(
        _comparison(before.get(name), after.get(name)) for name in before.keys() | after.keys()
    )
    name = _content_of if are_copies else _id_of
    kinds = {EntityType.PORTFOLIO, *([EntityType.BOOK] if with_books else [])}
    known = _steps(await read_keyed(RISK_ALERTS, settings), scope, name, kinds)
    found = _steps(await read_keyed(RISK_ALERTS, anew), scope, name, kinds)
    alerts = {
        "in both": len(known & found),
        _ONLY_BEFORE: len(known - found),
        _ONLY_NOW: len(found - known),
    }
    present = _open_alerts(
        await read_table(RISK_STATE, settings, tenant), scope, are_copies=are_copies
    )
    rebuilt = _open_alerts(await read_table(RISK_STATE, anew, tenant), scope, are_copies=are_copies)
    books: Mapping[str, int] = {}
    if with_books:
        present |= _open_alerts(await _book_states(settings, scope), scope)
        rebuilt |= _open_alerts(await _book_states(anew, scope), scope)
        books = await _compare_books(settings, anew, tenant, are_copies=are_copies)
    open_alerts = Counter(
        _presence(present.get(name), rebuilt.get(name)) for name in present.keys() | rebuilt.keys()
    )
    return Difference(measures, alerts, open_alerts, books)


async def _book_states(settings: ProducerSettings, scope: Scope) -> Mapping[bytes, Record]:
    """Return the limits and alerts of books: their rows have no header that names the tenant."""
    rows = await read_table(RISK_BOOK_STATE, settings, None)
    return {
        key: row
        for key, row in rows.items()
        if isinstance(row, PortfolioState) and scope.covers("", row.tenant)
    }


async def _compare_books(
    settings: ProducerSettings, anew: ProducerSettings, tenant: str | None, *, are_copies: bool
) -> Mapping[str, int]:
    before, after = [
        {
            # An id may have an offset in the log, which is another one in a copy.
            key: (risk.as_of_us, _without_ids(risk) if are_copies else risk.event_id)
            for key, risk in (await read_table(RISK_BOOK_RISKS, of, tenant)).items()
            if isinstance(risk, BookRisk)
        }
        for of in (settings, anew)
    ]
    return Counter(
        _OTHER_INSTANTS
        if key in before and key in after and before[key][0] != after[key][0]
        else _presence(before.get(key), after.get(key))
        for key in before.keys() | after.keys()
    )


def _without_ids(risk: BookRisk) -> BookRisk:
    return replace(risk, event_id=None, supersedes=None)


def lines_of(difference: Difference) -> Sequence[str]:
    """Return the differences as lines of a table."""
    rows = [
        *((f"measures {name}", count) for name, count in sorted(difference.measures.items())),
        *((f"books {name}", count) for name, count in sorted(difference.books.items())),
        *((f"open alerts {name}", count) for name, count in sorted(difference.open_alerts.items())),
        *((f"alert steps {name}", count) for name, count in difference.alerts.items()),
    ]
    return [f"{name:<28}{count:>8}" for name, count in rows]


def in_words(difference: Difference, version: str) -> str:
    """Return what a switch to a rebuilt past has changed, as a sentence."""
    start = f"the running workers continue from {version}"
    if difference.is_none:
        return f"{start}, which equals what they had; nothing changed for clients"
    measures = _counted(difference.changed_measures, "portfolio")
    of = sum(difference.measures.values())
    of_books = ""
    if difference.books:
        books = _counted(difference.changed_books, "book")
        of_books = f", and of {sum(difference.books.values()):,} books, of {books}"
    begun = _counted(difference.alerts[_ONLY_NOW], "alert step")
    ended = _counted(difference.alerts[_ONLY_BEFORE], "alert step")
    changed = _counted(difference.changed_alerts, "open alert")
    return (
        f"{start}; of {of} portfolios, clients get another measure of {measures}{of_books}. The "
        f"rebuilt history has {begun} more, and lacks {ended} of the old one. Clients get an event "
        f"about {changed}: an alert that should not be open is cleared, and one that should be is "
        "raised"
    )


def adopted_text(difference: Difference, version: str) -> str:
    """Return what became of topics that were copied from another cluster, as a sentence."""
    if difference.is_none:
        return f"{_ADOPTED}. {version} equals the states"
    return (
        f"{_ADOPTED}. {version} differs from the states, which is well only where the other "
        "cluster had records that its processors had not read yet"
    )


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


async def _check_growths(settings: ProducerSettings) -> int:
    """Return the number of partitions that each topic of portfolios has."""
    try:
        growths = await read_growths(settings.bootstrap_servers, settings.topic_prefix)
    except Unread as error:
        raise RebuildFailed(str(error)) from error
    growth = growths.unfinished
    if growth is not None:
        raise RebuildFailed(
            f"the topics of portfolios are growing from {growth.old_count} to {growth.new_count} "
            f"partitions; let `tapewire topics grow {growth.new_count}` finish, then rebuild"
        )
    return growths.count


async def _read_erasures(settings: ProducerSettings) -> Erasures:
    """Return the tenants that were erased: what the log has of them is not computed again."""
    try:
        return await read_erasures(settings)
    except (ProducerError, TimeoutError) as error:
        raise RebuildFailed(f"the erased tenants cannot be read: {error!r}") from error


async def _check_log(
    settings: ProducerSettings, count: int, scope: Scope
) -> tuple[Sequence[CopiedPositions], bool]:
    """Check that the log has what a rebuild needs.

    Returns:
        The positions of another cluster, and whether the topics had grown there.
    """
    try:
        copied = await find_copied(settings, count)
        has_grown = await have_grown_elsewhere(settings)
        if not has_grown:
            await check_beginning(settings, count, scope, are_copies=bool(copied))
    except (Unread, TimeoutError) as error:
        raise RebuildFailed(f"Kafka cannot be read: {error!r}") from error
    return copied, has_grown


async def _can_rebuild_books(
    settings: ProducerSettings,
    scope: Scope,
    copied: Sequence[CopiedPositions],
    terminal: Terminal,
) -> bool:
    """Return whether books are rebuilt; say why not, if the log has less than their states."""
    if copied or scope.portfolio_id:
        return False
    try:
        text = await missing_of_books(settings, scope)
    except (Unread, TimeoutError) as error:
        raise RebuildFailed(f"Kafka cannot be read: {error!r}") from error
    if text is not None:
        terminal.say(f"books are not rebuilt: {text}")
    return text is None


async def _adopt_grown(
    settings: ProducerSettings,
    copied: Sequence[CopiedPositions],
    terminal: Terminal,
    *,
    switch: bool,
) -> bool:
    """Let states of another cluster go on in copies of topics that had grown there.

    Returns:
        Whether the user agreed.
    """
    text = (
        "the topics of portfolios had grown before they were copied to this cluster, and the "
        "copies do not tell which records were read before, so the past cannot be computed again"
    )
    if not copied:
        raise RebuildFailed(text)
    terminal.say(text)
    if not (switch and terminal.agrees()):
        terminal.say(_NOT_ADOPTED)
        return False
    await _adopt(settings, copied)
    terminal.say(_ADOPTED)
    return True


async def _adopt(settings: ProducerSettings, copied: Sequence[CopiedPositions]) -> None:
    try:
        await adopt(copied, settings)
    except TopicsCopied as error:
        raise RebuildFailed(str(error)) from error
    except (ProducerError, TimeoutError) as error:
        raise RebuildFailed(f"Kafka became unavailable: {error!r}") from error


async def _check_count(settings: ProducerSettings, count: int) -> None:
    if await _check_growths(settings) != count:
        raise RebuildFailed(
            "the topics of portfolios have grown meanwhile; rebuild again, under a new name"
        )


def _grown(topics: Iterable[Topic], count: int) -> Sequence[Topic]:
    """Return topics with the partitions that they have where those of portfolios have `count`."""
    return [replace(topic, partitions=partitions_of(topic, count)) for topic in topics]


async def _caught_up(
    workers: Sequence[_Worker],
    prefix: str,
    count: int,
    settings: ProducerSettings,
    reading: AbstractContextManager[Report],
) -> None:
    with reading as report:
        for _ in range(_PASSES):
            ends = {
                f"{prefix}{worker.group}": await _ends_of(worker, count, settings)
                for worker in workers
            }
            await _read_to_the_end(workers, ends, settings, report)


async def _ends_of(worker: _Worker, count: int, settings: ProducerSettings) -> Ends:
    """Return the ends up to which a worker reads; those of books are in the first partitions."""
    ends = await read_end_offsets(_grown(worker.topics, count), settings)
    if worker.group == GROUP:
        return ends
    return {where: end for where, end in ends.items() if where.partition < PARTITIONS}


async def _read_to_the_end(
    workers: Sequence[_Worker],
    ends: Mapping[str, Ends],
    settings: ProducerSettings,
    report: Report,
) -> None:
    total = 0
    while left := sum(
        [await count_uncommitted(of_group, group, settings) for group, of_group in ends.items()]
    ):
        total = max(total, left)
        report(total - left, total)
        for worker in workers:
            await worker.keep(_LOOK_EVERY_S / len(workers))


async def _switch(settings: ProducerSettings, version: str, count: int) -> None:
    async with Publisher(settings) as publisher:
        for partition in range(count):
            done = RebuildDone(version=version, partition=partition, event_time_us=now_us())
            await publisher.publish(done, partition=partition, origin=operator())
    try:
        async with asyncio.timeout(_TAKEN_OVER_WITHIN_S):
            group = f"{settings.topic_prefix}tapewire"
            ends = await read_end_offsets(_grown([RISK_REBUILDS], count), settings)
            while await count_uncommitted(ends, group, settings):  # noqa: ASYNC110  # Kafka notifies nobody of commits
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        raise RebuildFailed(
            f"no worker took over within {_TAKEN_OVER_WITHIN_S:g} s; a worker that starts later "
            "does, as long as the log has the request"
        ) from None


def _measures(records: Mapping[bytes, Record], scope: Scope) -> dict[bytes, RiskMeasure]:
    return {
        key: record
        for key, record in records.items()
        if isinstance(record, RiskMeasure) and scope.portfolio_id in ("", record.portfolio_id)
    }


def _comparison(before: RiskMeasure | None, after: RiskMeasure | None) -> str:
    if before is None or after is None:
        return _ONLY_BEFORE if after is None else _ONLY_NOW
    if before.as_of_us != after.as_of_us:
        return _OTHER_INSTANTS
    return _EQUAL if _without_limits(before) == _without_limits(after) else _DIFFERENT


def _open_alerts(
    states: Mapping[bytes, Record], scope: Scope, *, are_copies: bool = False
) -> dict[tuple[bytes, str], tuple[int, ...]]:
    """Return the level, acknowledgement and number of transitions of each open alert.

    Alerts about missing measures are left out: they depend on the time. Those in copies of another
    cluster's topics have their rules for ids, and levels only.
    """
    watches = [
        (key, watch)
        for key, state in states.items()
        if isinstance(state, PortfolioState) and scope.portfolio_id in ("", state.portfolio_id)
        for watch in state.watches
        if watch.alert_id is not None and watch.rule_id != STALE
    ]
    if are_copies:
        return {(key, watch.rule_id): (watch.level,) for key, watch in watches}
    return {
        (key, watch.alert_id or ""): (watch.level, watch.acknowledged, watch.transitions)
        for key, watch in watches
    }


def _presence(before: object, after: object) -> str:
    if before is None or after is None:
        return _ONLY_BEFORE if after is None else _ONLY_NOW
    return _EQUAL if before == after else _DIFFERENT


def _without_limits(measure: RiskMeasure) -> RiskMeasure:
    """Return a measure without its id, its limit, and the place of its return in the log."""
    return replace(
        measure,
        event_id="",
        threshold=None,
        utilisation=None,
        limits_version=None,
        source_topic="",
        source_partition=0,
        source_offset=0,
    )


def _id_of(alert: RiskAlert) -> str | None:
    return alert.transition_id


def _content_of(alert: RiskAlert) -> str | None:
    if alert.state == AlertTransition.ACKNOWLEDGED:
        return None
    what = alert.entity_id, alert.rule_id, alert.state, alert.severity, alert.event_time_us
    return repr((*what, alert.measure_id))


def _steps(
    records: Sequence[tuple[bytes, Record]],
    scope: Scope,
    name: Callable[[RiskAlert], str | None],
    kinds: Container[str],
) -> set[tuple[str | None, str]]:
    """Return the transitions of alerts; those of two tenants may have the same id.

    Args:
        records: the alerts, each with its key.
        scope: the portfolios.
        name: names a transition; None for one that is left out.
        kinds: the types of the entities whose alerts count.
    """
    found = set()
    for key, alert in records:
        named = decode_key(key).tenant
        if not isinstance(alert, RiskAlert) or alert.entity_type not in kinds:
            continue
        step = name(alert)
        if step is not None and scope.covers(alert.entity_id, named):
            found.add((named, step))
    return found
