"""`tapewire rebuild`: computes measures and alerts again from the beginning of the log.

A separate worker reads the whole log and writes to topics of its own, `VERSION.risk.measures` and
so on. When it has caught up, the differences are printed, and the running workers continue from
its result, partition by partition. Clients then receive the measures that changed, the end of
alerts that should not exist, and the alerts that should.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cli.errors import RebuildFailed
from infra.modules import module_name
from infra.supervisor import Part, Process
from infra.topics import provision, wait_for_kafka
from kafka_io.clock import now_us
from kafka_io.errors import ProducerError, Unread
from kafka_io.publisher import Publisher
from kafka_io.reader import count_uncommitted, read_all, read_end_offsets, read_table
from kafka_io.settings import ProducerSettings
from schemas.events import RebuildDone, Record, RiskAlert, RiskMeasure
from schemas.topics import (
    DASHBOARD_TALLIES,
    DEAD_LETTERS,
    PORTFOLIO_RETURNS,
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_REBUILDS,
    RISK_SERIES,
    RISK_STATE,
    RISK_WANTED,
)
from stream_processors.kafka_adapter import read_growths

_READ = (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS, RISK_WANTED)
_WRITTEN = (
    RISK_MEASURES,
    RISK_ALERTS,
    RISK_OPEN,
    RISK_STATE,
    RISK_SERIES,
    DASHBOARD_TALLIES,
    DEAD_LETTERS,
    PROCESSOR_POSITIONS,
)
_KAFKA_S = 5.0
_LOOK_EVERY_S = 1.0
_TAKEN_OVER_WITHIN_S = 60.0
_PASSES = 2
"""The log grows during a pass; the second pass reads only what was written during the first."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """The differences between two computations of the same past."""

    measures: Mapping[str, int]
    """Portfolios by their last measures: equal, different, or only in one."""
    alerts: Mapping[str, int]
    """Transitions of alerts: in both, or only in one."""


async def rebuild(
    settings: ProducerSettings,
    version: str,
    folder: Path,
    say: Say,
    *,
    switch: bool,
    env: Mapping[str, str] | None = None,
) -> None:
    """Compute everything again, print the differences, and let running workers continue from it.

    Args:
        settings: where Kafka is.
        version: the prefix, with a dot, of the topics that are written.
        folder: the folder of the worker's log file.
        say: prints a line.
        switch: whether the running workers continue from the result.
        env: the worker's settings, in addition to this process's.

    Raises:
        RebuildFailed: the version exists, topics have grown, the worker died, no running worker
            took over, or Kafka became unavailable.
        InfraError: Kafka is unavailable, or refused a topic.
    """
    prefix = f"{settings.topic_prefix}{version}."
    await asyncio.to_thread(wait_for_kafka, settings.bootstrap_servers, within_s=_KAFKA_S)
    await _check_growths(settings)
    servers = settings.bootstrap_servers
    made = await asyncio.to_thread(provision, servers, prefix=prefix, topics=_WRITTEN)
    if len(made) < len(_WRITTEN):
        # Its worker would continue where the earlier one stopped, with other settings.
        raise RebuildFailed(f"a rebuild {version} exists already; choose another name")
    where = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": settings.topic_prefix,
        "TAPEWIRE_REBUILD_VERSION": version,
    }
    command = sys.executable, "-m", module_name("stream_processors")
    part = Part(f"rebuild-{version}", command, {**where, **(env or {})})
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    worker = Process(part, folder / f"{part.name}.log")
    await worker.start()
    try:
        await _caught_up(worker, f"{prefix}tapewire", settings, say)
        difference = await compare(settings, version)
        for line in lines_of(difference):
            say(line)
        if switch:
            await _check_growths(settings)
            await _switch(settings, version, say)
    except (ProducerError, TimeoutError) as error:
        raise RebuildFailed(f"Kafka became unavailable: {error!r}") from error
    finally:
        await worker.stop()


async def compare(settings: ProducerSettings, version: str) -> Difference:
    """Compare present and recomputed measures and alerts, as of the same times.

    Raises:
        Unread: Kafka cannot be read.
    """
    anew = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}{version}."})
    before = _measures(await read_table(RISK_MEASURES, settings))
    after = _measures(await read_table(RISK_MEASURES, anew))
    measures = Counter(
        _comparison(before.get(name), after.get(name)) for name in before.keys() | after.keys()
    )
    known = _steps(await read_all(RISK_ALERTS, settings))
    found = _steps(await read_all(RISK_ALERTS, anew))
    alerts = {
        "in both": len(known & found),
        "only before": len(known - found),
        "only now": len(found - known),
    }
    return Difference(measures, alerts)


def lines_of(difference: Difference) -> Sequence[str]:
    """Return the differences as lines of a table."""
    rows = [
        *((f"measures {name}", count) for name, count in sorted(difference.measures.items())),
        *((f"alert steps {name}", count) for name, count in difference.alerts.items()),
    ]
    return [f"{name:<28}{count:>8}" for name, count in rows]


async def _check_growths(settings: ProducerSettings) -> None:
    """Check that no portfolio has changed its partition: a rebuild would not follow it."""
    try:
        growths = await read_growths(settings.bootstrap_servers, settings.topic_prefix)
    except Unread as error:
        raise RebuildFailed(str(error)) from error
    if growths:
        raise RebuildFailed(
            "the topics of portfolios have grown (`tapewire topics grow`), and a rebuild cannot "
            "follow portfolios that have changed their partitions"
        )


async def _caught_up(worker: Process, group: str, settings: ProducerSettings, say: Say) -> None:
    for _ in range(_PASSES):
        ends = await read_end_offsets(_READ, settings)
        while left := await count_uncommitted(ends, group, settings):
            say(f"{left} records to read")
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    code = await worker.ended()
                output = "\n".join(worker.last_lines())
                raise RebuildFailed(f"the worker ended with exit code {code}:\n{output}")


async def _switch(settings: ProducerSettings, version: str, say: Say) -> None:
    async with Publisher(settings) as publisher:
        for partition in range(PORTFOLIO_RETURNS.partitions):
            done = RebuildDone(version=version, partition=partition, event_time_us=now_us())
            await publisher.publish(done, partition=partition)
    try:
        async with asyncio.timeout(_TAKEN_OVER_WITHIN_S):
            group = f"{settings.topic_prefix}tapewire"
            ends = await read_end_offsets([RISK_REBUILDS], settings)
            while await count_uncommitted(ends, group, settings):  # noqa: ASYNC110  # Kafka notifies nobody of commits
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        raise RebuildFailed(
            f"no worker took over within {_TAKEN_OVER_WITHIN_S:g} s; a worker that starts later "
            "does, as long as the log has the request"
        ) from None
    say(f"the running workers continue from {version}")


def _measures(records: Mapping[bytes, Record]) -> dict[bytes, RiskMeasure]:
    return {key: record for key, record in records.items() if isinstance(record, RiskMeasure)}


def _comparison(before: RiskMeasure | None, after: RiskMeasure | None) -> str:
    if before is None or after is None:
        return "only before" if after is None else "only now"
    if before.as_of_us != after.as_of_us:
        return "of other instants"
    return "equal" if _without_limits(before) == _without_limits(after) else "different"


def _without_limits(measure: RiskMeasure) -> RiskMeasure:
    """Return a measure without the fields of its limit, and of its return's place in the log."""
    return replace(
        measure,
        threshold=None,
        utilisation=None,
        source_topic="",
        source_partition=0,
        source_offset=0,
    )


def _steps(records: Sequence[Record]) -> set[str]:
    return {alert.transition_id for alert in records if isinstance(alert, RiskAlert)}
