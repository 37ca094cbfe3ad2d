"""`tapewire risk replay`: the alerts that were raised, or that another method or limit would raise.

Without a limit, the limits, acknowledgements and stress scenarios in the log judge, as they did in
the running system. With one, it alone judges the VaR at all times.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path
from typing import Any

from cli.errors import NoHistory
from cli.record_json import json_of
from kafka_io.client import partition_of
from kafka_io.clock import now_us
from kafka_io.dead_letters import log_time_us
from kafka_io.errors import Unread
from kafka_io.reader import ConsumedRecord, read_homes
from kafka_io.settings import ProducerSettings
from schemas.events import AlertTransition, Return, ReturnBatch, RiskAlert
from schemas.gate import admit_or_none
from schemas.instants import EARLIEST_US, LATEST_US, to_date, to_rfc3339
from schemas.keys import encode_key
from schemas.topics import PARTITIONS, PORTFOLIO_RETURNS, Topic
from stream_processors.gate import RecordGate
from stream_processors.messages import Admitted
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.log_replay import LogQuery, LogReplay, replay_log
from stream_processors.risk.replay import Replay, ReplayQuery, replay
from stream_processors.risk.risk_batch import ORDERED
from stream_processors.risk.rules import DAYS_JUDGED
from stream_processors.settings import ProcessorSettings

_DAY_US = 86_400_000_000
CLOCKS_US = 1_000_000
"""How far this machine's clock may be ahead of those of brokers."""
_COUNT_MAX = 10_000
"""More partitions than a topic has."""


@dataclass(frozen=True, slots=True)
class Past:
    """The result of a replay."""

    forecasts: Replay
    """The days and the backtest, with the transitions by the one limit that was asked for."""
    ran: LogReplay | None = None
    """The alerts by the limits in the log, if no other one was asked for."""


def query_of(
    processors: ProcessorSettings,
    *,
    portfolio_id: str,
    method: str,
    level: ConfidenceLevel,
    limit: float | None,
    since_us: int,
    until_us: int,
) -> ReplayQuery:
    """Return a query with the window, minimum and bounds of the running processors.

    Raises:
        InvalidInput: a parameter is out of its range.
    """
    return ReplayQuery(
        portfolio_id=portfolio_id,
        method=method,
        level=level,
        limit=limit,
        since_us=since_us,
        until_us=until_us,
        window=processors.risk_window,
        observations_min=processors.risk_observations_min,
        lateness_us=processors.risk_config().lateness_us,
        ahead_us=processors.risk_config().ahead_us,
        dof=processors.risk_dof,
        mean=processors.risk_mean,
        ewma_start=processors.risk_ewma_start,
        ewma_decay=processors.risk_ewma_decay,
        hysteresis=processors.var_hysteresis,
        warn_ratio=processors.var_warn_ratio,
        critical_ratio=processors.var_critical_ratio,
    )


def run(
    query: ReplayQuery,
    settings: ProducerSettings,
    tenant: str | None = None,
    processors: ProcessorSettings | None = None,
) -> Past:
    """Read the log of a tenant's portfolio from Kafka, and measure and judge it again.

    Args:
        query: what to replay.
        settings: where Kafka is.
        tenant: the tenant; None for none.
        processors: the settings of the running processors; by default those of this environment.

    Raises:
        NoHistory: Kafka cannot be read, or has no such returns.
        InvalidInput, InvalidRule: a parameter is invalid.
    """
    key = encode_key(query.portfolio_id, tenant)
    topics = (PORTFOLIO_RETURNS,) if query.limit is not None else ORDERED
    began_us = now_us()
    try:
        read = {
            topic.name: asyncio.run(read_homes(topic, key, settings, tenant or ""))
            for topic in topics
        }
    except (Unread, TimeoutError) as error:
        raise NoHistory(f"the log cannot be read: {error}") from error
    lap, returns = newest_lap(batches_of(read[PORTFOLIO_RETURNS.name], query), query)
    forecasts = replay(returns, replace(query, lap=lap))
    if not forecasts.days:
        raise NoHistory(_reason(query, returns))
    if query.limit is not None:
        return Past(forecasts)
    processors = processors or ProcessorSettings()
    asked = LogQuery(
        query.portfolio_id,
        tenant,
        query.method,
        replace(processors.risk_config(), methods=query.methods),
        settings.topic_prefix,
    )
    admitted = admitted_of(read, key, settings.topic_prefix, processors.ahead_us())
    # The topics are read one after another: a record that was appended in the meantime may depend
    # on records of another topic that were not read.
    messages = [message for message in admitted if log_time_us(message) <= began_us]
    ran = replay_log(messages, asked, query.rule_id, began_us - CLOCKS_US)
    alerts = [
        past
        for past in ran.alerts
        if past.lap == lap and query.since_us <= past.alert.event_time_us < query.until_us
    ]
    return Past(forecasts, ran._replace(alerts=alerts))


def admitted_of(
    records: Mapping[str, Iterable[ConsumedRecord]], key: bytes, prefix: str, ahead_us: float
) -> Iterable[Admitted]:
    """Yield the records that the processors' gate admits.

    Args:
        records: those of the partitions where a key's records are or were, by topic.
        key: the key.
        prefix: the prefix of the topics.
        ahead_us: how far ahead of its time in the log an event may be.
    """
    topics = {prefix + topic.name: topic for topic in ORDERED}
    gates: dict[int, RecordGate] = {}
    for of_topic in records.values():
        for record in of_topic:
            gate = gates.get(record.partition)
            if gate is None:
                count = _partitions_with(key, record.partition)
                gate = gates[record.partition] = _gate(topics, count, ahead_us)
            message = gate.admit(record)
            if isinstance(message, Admitted):
                yield message


def _gate(topics: Mapping[str, Topic], partitions: int, ahead_us: float) -> RecordGate:
    return RecordGate(topics, lambda _: partitions, ahead_us)


def _partitions_with(key: bytes, partition: int) -> int:
    """Return how many partitions a topic had when a partition was a key's: it has grown since."""
    counts = range(PARTITIONS, _COUNT_MAX, PARTITIONS)
    found = (count for count in counts if partition_of(key, count) == partition)
    return next(found, PARTITIONS)


def batches_of(records: Iterable[ConsumedRecord], query: ReplayQuery) -> Sequence[ReturnBatch]:
    """Return the batches in records, without the returns that processors refuse as too far ahead.

    A later batch of an earlier lap is left out: the running system takes it for late. A lap begins
    with its first return that is not refused.
    """
    batches, lap = [], 0
    for record in records:
        batch = admit_or_none(ReturnBatch, record.value)
        if batch is None or batch.lap < lap:
            continue
        latest_us = min(log_time_us(record) + query.ahead_us, LATEST_US)
        returns = [value for value in batch.returns if value.event_time_us <= latest_us]
        if any(value.portfolio_id == query.portfolio_id and _counts(value) for value in returns):
            lap = batch.lap
        batches.append(replace(batch, returns=returns))
    return batches


def _counts(observation: Return) -> bool:
    return isfinite(observation.value) and observation.event_time_us >= EARLIEST_US


def newest_lap(batches: Sequence[ReturnBatch], query: ReplayQuery) -> tuple[int, Sequence[Return]]:
    """Return the newest lap of a replay that has the most of a query's days, and its returns.

    Returns that were observed are all of one lap.
    """
    by_lap: dict[int, list[Return]] = {}
    for batch in batches:
        by_lap.setdefault(batch.lap, []).extend(batch.returns)
    days = {
        lap: sum(
            value.portfolio_id == query.portfolio_id
            and query.since_us <= value.event_time_us < query.until_us
            for value in returns
        )
        for lap, returns in by_lap.items()
    }
    if not days:
        return 0, []
    newest = max(days, key=lambda lap: (days[lap], lap))
    return newest, by_lap[newest]


def _reason(query: ReplayQuery, returns: Sequence[Return]) -> str:
    own = [value.event_time_us for value in returns if value.portfolio_id == query.portfolio_id]
    times = [at_us for at_us in own if EARLIEST_US <= at_us < LATEST_US]
    if own and not times:
        return f"the returns of {query.portfolio_id} have times that are in no calendar"
    if times:
        available = f"its returns are from {to_date(min(times))} to {to_date(max(times))}"
        return f"{query.portfolio_id} has no returns from {to_date(query.since_us)} on; {available}"
    others = sorted({value.portfolio_id for value in returns})
    beside = f"; its partition has {', '.join(others)}" if others else ""
    return f"the log has no returns of {query.portfolio_id}{beside}"


def as_json(past: Past, query: ReplayQuery) -> dict[str, Any]:
    """Return a replay for a program."""
    result, ran = past.forecasts, past.ran
    return {
        "portfolio_id": query.portfolio_id,
        "method": query.method,
        "confidence": float(query.level.confidence),
        "limit": query.limit,
        "days": [
            {
                "date": to_date(day.at_us),
                "return": json_of(day.value),
                "var": None if day.forecast is None else json_of(day.forecast.var),
                "es": None if day.forecast is None else json_of(day.forecast.es),
                "exceeded": day.exceeded,
            }
            for day in result.days
        ],
        "alerts": _judged(result, query)
        if ran is None
        else [alert_row(past.alert) for past in ran.alerts],
        "stress": [] if ran is None else json_of(ran.stress),
        "backtest": None if result.test is None else json_of(result.test),
    }


def _judged(result: Replay, query: ReplayQuery) -> list[dict[str, Any]]:
    return [
        {
            "at": to_rfc3339(step.at_us),
            "alert_id": step.transition.alert_id,
            "transition_id": step.transition.transition_id,
            "state": step.transition.kind,
            "level": step.transition.level.name.lower(),
            "metric": query.rule_id,
            "value": json_of(step.transition.value),
            "limit": query.limit,
            "message": None,
        }
        for step in result.steps
    ]


def alert_row(alert: RiskAlert) -> dict[str, Any]:
    """Return an alert that was sent, for a program."""
    return {
        "at": to_rfc3339(alert.event_time_us),
        "alert_id": alert.alert_id,
        "transition_id": alert.transition_id,
        "state": alert.state,
        "level": alert.level,
        "metric": alert.metric_name,
        "value": json_of(alert.metric_value),
        "limit": json_of(alert.threshold),
        "message": alert.message,
    }


def table(past: Past, query: ReplayQuery) -> Sequence[str]:
    """Return the transitions of the alerts and the method's backtest, as lines of a table."""
    result = past.forecasts
    lines = _steps(result, query) if past.ran is None else _alerts(past.ran)
    tail = query.level.tail
    test = result.test
    if test is None:
        return [*lines, "", f"{len(result.days)} days, and no forecast for any of them"]
    worst = min(result.days, key=lambda day: day.value)
    return [
        *lines,
        "",
        (
            f"{test.observations} days with a forecast; {test.exceptions} exceptions, where "
            f"{test.observations * tail:.1f} were to be expected"
        ),
        (
            f"Kupiec p = {test.coverage.p_value:.3g}, independence p = "
            f"{test.independence.p_value:.3g}, traffic light {test.zone} by the last "
            f"{min(test.observations, DAYS_JUDGED)} days"
        ),
        f"the worst day: {to_date(worst.at_us)}, {worst.value:+.4f}",
    ]


def _steps(result: Replay, query: ReplayQuery) -> list[str]:
    lines = [f"{'date':<12}{'step':<13}{'level':<10}{'VaR':>8}{'limit':>9}"]
    for step in result.steps:
        transition = step.transition
        lines.append(
            f"{to_date(step.at_us):<12}{transition.kind:<13}{transition.level.name.lower():<10}"
            f"{transition.value:>8.4f}{query.limit or 0.0:>9.4f}"
        )
    return lines if result.steps else [*lines, "nothing would have alerted"]


def _alerts(ran: LogReplay) -> list[str]:
    lines = [f"{'date':<12}{'step':<15}{'level':<10}{'metric':<16}message"]
    lines += [alert_line(alert) for _, alert in ran.alerts]
    if not ran.alerts:
        lines.append("nothing has alerted")
    for loss in ran.stress:
        known = "unknown" if loss.loss is None else f"{loss.loss:.4f}"
        lines.append(f"the loss in the scenario {_printable(loss.scenario)}: {known}")
    return lines


def alert_line(alert: RiskAlert) -> str:
    """Return an alert that was sent, as a line of a table."""
    return (
        f"{to_date(alert.event_time_us):<12}{alert.state:<15}{alert.level or '':<10}"
        f"{_printable(alert.metric_name):<15} {_printable(alert.message)}"
    )


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def draw(past: Past, query: ReplayQuery, path: Path) -> None:
    """Draw returns, VaR, limits and exceptions to a file, PNG or SVG by its name.

    Raises:
        NoHistory: matplotlib is not installed, the name ends in neither .png nor .svg, or the file
            cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # half a second, for one command
    except ModuleNotFoundError as error:
        raise NoHistory("a picture needs matplotlib: pip install matplotlib") from error
    if path.suffix.lower() not in (".png", ".svg"):
        raise NoHistory(f"{path} must end in .png or .svg")
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    days = past.forecasts.days
    times = [day.at_us / _DAY_US for day in days]  # as its axes of dates count
    axes.xaxis_date()
    axes.bar(times, [day.value for day in days], width=1.0, color="#8aa4c0", label="return")
    lines = [float("nan") if day.forecast is None else -day.forecast.var for day in days]
    axes.plot(times, lines, color="#c0392b", linewidth=1.2, label=f"-VaR, {query.method}")
    limits = _limits(past, query)
    axes.plot(times, limits, color="#7f8c8d", linestyle="--", linewidth=1, drawstyle="steps-post",
              label="-limit")  # fmt: skip
    exceeded = [(at, day.value) for at, day in zip(times, days, strict=True) if day.exceeded]
    axes.plot(*zip(*exceeded, strict=True) if exceeded else ([], []), "o", color="#c0392b",
              markersize=4, label="exception")  # fmt: skip
    for at_us, kind in _drawn_steps(past, query):
        color = "#27ae60" if kind == AlertTransition.CLEARED else "#e67e22"
        axes.axvline(at_us / _DAY_US, color=color, linewidth=0.8, alpha=0.7)
    confidence = f"{float(query.level.confidence):.3g}"
    axes.set_title(f"{query.portfolio_id}: VaR {confidence}, {query.method}")
    axes.set_ylabel("fraction of net asset value")
    axes.legend(loc="upper right", ncols=4, fontsize="small")
    try:
        figure.savefig(path)
    except OSError as error:
        raise NoHistory(f"{path} cannot be written: {error}") from error


def _limits(past: Past, query: ReplayQuery) -> Sequence[float]:
    """Return the negative limit on each day, NaN where there was none."""
    if past.ran is None:
        return [-(query.limit or nan)] * len(past.forecasts.days)
    limits, bounds, limit = [], list(reversed(past.ran.bounds)), nan
    for day in past.forecasts.days:
        while bounds and bounds[-1].at_us <= day.at_us:
            bound = bounds.pop().limit
            limit = nan if bound is None else -bound
        limits.append(limit)
    return limits


def _drawn_steps(past: Past, query: ReplayQuery) -> Sequence[tuple[int, str]]:
    """Return the time and kind of each transition of the alert on the VaR that is drawn."""
    if past.ran is None:
        return [(step.at_us, step.transition.kind) for step in past.forecasts.steps]
    alerts: Iterable[RiskAlert] = (of_lap.alert for of_lap in past.ran.alerts)
    return [(at.event_time_us, at.state) for at in alerts if at.rule_id == query.rule_id]
