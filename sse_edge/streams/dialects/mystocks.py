"""The MyStocks dialect: named events, whose data is an envelope with name, data and time.

Pure: an event of the catalogue in, its name and data out. The envelope's time is the log's, so
that every node words a record alike.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, replace
from functools import cache
from operator import attrgetter
from typing import Any, cast

from schemas.events import (
    BacktestProgress,
    BookRisk,
    DashboardUpdate,
    RiskAlert,
    RiskEstimate,
    RiskMeasure,
    TrainingProgress,
)
from schemas.instants import to_date, to_rfc3339
from sse_edge.streams.dialect import ClientInfo, Dialect, EventBlock, Rendered


def _connected(client_info: ClientInfo, timestamp: str) -> EventBlock:
    data = {
        "client_id": client_info.client_id,
        "channel": client_info.stream,
        "message": f"Connected to {client_info.stream} channel",
    }
    return _notice(client_info, "connected", data, timestamp)


def _ping(_: ClientInfo, timestamp: str) -> EventBlock:
    return EventBlock("ping", {"event": "ping", "data": {"timestamp": timestamp}})


def _wrapped(rendered: Rendered, timestamp: str) -> EventBlock:
    return EventBlock(rendered.event, envelope(rendered.event, rendered.data, timestamp))


def _notice(_: ClientInfo, event: str, data: Mapping[str, object], timestamp: str) -> EventBlock:
    return EventBlock(event, envelope(event, data, timestamp))


MYSTOCKS = Dialect("mystocks", wrap=_wrapped, notice=_notice, opening=_connected, heartbeat=_ping)


MANY = "mystocks_many"
"""The name of the dialect of several channels in one connection."""


def many(channel: str, entity_field: str) -> Dialect:
    """Return the dialect of a channel that shares its connection with others.

    Each event has a field `stream`, `CHANNEL:ENTITY`.

    Args:
        channel: the channel's name.
        entity_field: the field of an event's data that names its entity.
    """

    def wrap(rendered: Rendered, timestamp: str) -> EventBlock:
        stream = {"stream": f"{channel}:{rendered.data[entity_field]}"}
        return EventBlock(
            rendered.event, envelope(rendered.event, rendered.data, timestamp) | stream
        )

    return replace(MYSTOCKS, name=MANY, wrap=wrap)


def envelope(event: str, data: Mapping[str, object], timestamp: str) -> dict[str, object]:
    """What the data of every event looks like."""
    return {"event": event, "data": data, "timestamp": timestamp}


def training_progress(event: TrainingProgress) -> Rendered:
    """A training run has come this far."""
    data: dict[str, object] = {
        "task_id": event.task_id,
        "progress": event.progress,
        "status": event.status,
        "message": event.message,
        "metrics": event.metrics,
    }
    return Rendered("training_progress", data, ends=event.ends)


def backtest_progress(event: BacktestProgress) -> Rendered:
    """A backtest has come this far."""
    data: dict[str, object] = {
        "backtest_id": event.backtest_id,
        "progress": event.progress,
        "status": event.status,
        "message": event.message,
        "current_date": event.current_date,
        "results": event.results,
    }
    return Rendered("backtest_progress", data, ends=event.ends)


def risk_alert(event: RiskAlert) -> Rendered:
    """An alert was raised, escalated, deescalated or cleared."""
    data = _fields(event)
    data["as_of"] = to_rfc3339(event.event_time_us)
    if event.scenario_us is not None:
        data["var_scenario_date"] = to_date(event.scenario_us)
    return Rendered("risk_alert", data)


def risk_measure(event: RiskMeasure) -> Rendered:
    """What a portfolio's window says."""
    data = _fields(event)
    data["as_of"] = to_rfc3339(event.as_of_us)
    data["estimates"] = [_estimate(one) for one in event.estimates]
    data["model_backtests"] = [one._asdict() for one in event.model_backtests]
    if event.scenario_us is not None:
        data["var_scenario_date"] = to_date(event.scenario_us)
    return Rendered("risk_measure", data)


def book_risk(event: BookRisk) -> Rendered:
    """What a book may lose, and which of its parts does it."""
    data = _fields(event)
    data["path"] = event.path
    data["as_of"] = to_rfc3339(event.as_of_us)
    data["estimates"] = [_estimate(one) for one in event.estimates]
    data["parts"] = [one._asdict() for one in event.parts]
    if event.scenario_us is not None:
        data["var_scenario_date"] = to_date(event.scenario_us)
    return Rendered("book_risk", data)


def _estimate(one: RiskEstimate) -> dict[str, object]:
    data = one._asdict()
    data["as_of"] = to_rfc3339(data.pop("as_of_us"))
    return data


def dashboard_update(event: DashboardUpdate) -> Rendered:
    """What happened in one window of time."""
    data: dict[str, object] = {
        "window_id": event.window_id,
        "update_type": event.update_type,
        **({"counts": event.values} if event.update_type == "window" else event.values),
    }
    if event.worst:
        by_share = sorted(event.worst.items(), key=lambda item: (-item[1], item[0]))
        data["worst"] = [
            {"portfolio_id": portfolio_id, "utilisation": share} for portfolio_id, share in by_share
        ]
    if event.window_start_us is not None and event.window_end_us is not None:
        data["window_s"] = (event.window_end_us - event.window_start_us) / 1_000_000
        data["window_start"] = to_rfc3339(event.window_start_us)
        data["window_end"] = to_rfc3339(event.window_end_us)
    return Rendered("dashboard_update", data)


def _fields(event: Any) -> dict[str, object]:
    """An event's fields; those in microseconds are worded where they matter."""
    names, values = _getter(cast("Hashable", type(event)))
    return dict(zip(names, values(event), strict=True))


@cache
def _getter(kind: Hashable) -> tuple[tuple[str, ...], Callable[[Any], tuple[object, ...]]]:
    names = tuple(
        field.name for field in fields(cast("type[Any]", kind)) if not field.name.endswith("_us")
    )
    return names, attrgetter(*names)
