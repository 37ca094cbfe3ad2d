"""`tapewire risk replay`: the alerts that a method and a limit would have raised."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path

from cli.errors import NoHistory
from kafka_io.dead_letters import log_time_us
from kafka_io.errors import Unread
from kafka_io.reader import ConsumedRecord, read_homes
from kafka_io.settings import ProducerSettings
from schemas.events import AlertTransition, Return, ReturnBatch
from schemas.gate import admit_or_none
from schemas.instants import EARLIEST_US, LATEST_US, to_date
from schemas.keys import encode_key
from schemas.topics import PORTFOLIO_RETURNS
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.replay import Replay, ReplayQuery, replay
from stream_processors.risk.rules import DAYS_JUDGED
from stream_processors.settings import ProcessorSettings

_DAY_US = 86_400_000_000


def query_of(
    processors: ProcessorSettings,
    *,
    portfolio_id: str,
    method: str,
    level: ConfidenceLevel,
    limit: float,
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


def run(query: ReplayQuery, settings: ProducerSettings, tenant: str | None = None) -> Replay:
    """Read the returns of a tenant's portfolio from Kafka, and measure them again.

    Raises:
        NoHistory: Kafka cannot be read, or has no such returns.
        InvalidInput, InvalidRule: a parameter is invalid.
    """
    key = encode_key(query.portfolio_id, tenant)
    try:
        records = asyncio.run(read_homes(PORTFOLIO_RETURNS, key, settings, tenant or ""))
    except (Unread, TimeoutError) as error:
        raise NoHistory(f"the log cannot be read: {error}") from error
    lap, returns = newest_lap(batches_of(records, query), query)
    result = replay(returns, replace(query, lap=lap))
    if not result.days:
        raise NoHistory(_reason(query, returns))
    return result


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


def table(result: Replay, query: ReplayQuery) -> Sequence[str]:
    """Return the transitions of the alerts and the method's backtest, as lines of a table."""
    tail = query.level.tail
    lines = [f"{'date':<12}{'step':<13}{'level':<10}{'VaR':>8}{'limit':>9}"]
    for step in result.steps:
        transition = step.transition
        lines.append(
            f"{to_date(step.at_us):<12}{transition.kind:<13}{transition.level.name.lower():<10}"
            f"{transition.value:>8.4f}{query.limit:>9.4f}"
        )
    if not result.steps:
        lines.append("nothing would have alerted")
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


def draw(result: Replay, query: ReplayQuery, path: Path) -> None:
    """Draw returns, VaR and exceptions to a file, PNG or SVG by its name.

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
    days = result.days
    times = [day.at_us / _DAY_US for day in days]  # as its axes of dates count
    axes.xaxis_date()
    axes.bar(times, [day.value for day in days], width=1.0, color="#8aa4c0", label="return")
    lines = [float("nan") if day.forecast is None else -day.forecast.var for day in days]
    axes.plot(times, lines, color="#c0392b", linewidth=1.2, label=f"-VaR, {query.method}")
    axes.axhline(-query.limit, color="#7f8c8d", linestyle="--", linewidth=1, label="-limit")
    exceeded = [(at, day.value) for at, day in zip(times, days, strict=True) if day.exceeded]
    axes.plot(*zip(*exceeded, strict=True) if exceeded else ([], []), "o", color="#c0392b",
              markersize=4, label="exception")  # fmt: skip
    for step in result.steps:
        color = "#27ae60" if step.transition.kind is AlertTransition.CLEARED else "#e67e22"
        axes.axvline(step.at_us / _DAY_US, color=color, linewidth=0.8, alpha=0.7)
    confidence = f"{float(query.level.confidence):.3g}"
    axes.set_title(f"{query.portfolio_id}: VaR {confidence}, {query.method}")
    axes.set_ylabel("fraction of net asset value")
    axes.legend(loc="upper right", ncols=4, fontsize="small")
    try:
        figure.savefig(path)
    except OSError as error:
        raise NoHistory(f"{path} cannot be written: {error}") from error
