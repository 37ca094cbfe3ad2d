"""The MyStocks dialect: named events, whose data is an envelope with name, data and time.

Pure: an event of the catalogue in, its name and data out. The envelope's time is the log's, so
that every node words a record alike.
"""

from collections.abc import Callable, Hashable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, cast

from schemas.events import (
    BacktestProgress,
    DashboardUpdate,
    RiskAlert,
    RiskMeasure,
    TrainingProgress,
)
from schemas.instants import to_date, to_rfc3339

HEARTBEAT = "ping"

_FINAL = frozenset({"completed", "failed"})


class Worded(NamedTuple):
    """An event as clients of a dialect see it."""

    event: str
    data: dict[str, object]
    ends: bool = False
    """Whether it is the last of its entity's story."""


def connected(client_id: str, channel: str) -> dict[str, object]:
    """The data of the opening event."""
    return {
        "client_id": client_id,
        "channel": channel,
        "message": f"Connected to {channel} channel",
    }


def training_progress(event: TrainingProgress) -> Worded:
    """A training run has come this far."""
    return Worded("training_progress", _fields(event), ends=event.status in _FINAL)


def backtest_progress(event: BacktestProgress) -> Worded:
    """A backtest has come this far."""
    return Worded("backtest_progress", _fields(event), ends=event.status in _FINAL)


def risk_alert(event: RiskAlert) -> Worded:
    """An alert was raised, escalated, deescalated or cleared."""
    data = _fields(event)
    data["as_of"] = to_rfc3339(event.event_time_us)
    if event.scenario_us is not None:
        data["var_scenario_date"] = to_date(event.scenario_us)
    return Worded("risk_alert", data)


def risk_measure(event: RiskMeasure) -> Worded:
    """What a portfolio's window says."""
    data = _fields(event)
    data["as_of"] = to_rfc3339(event.as_of_us)
    if event.scenario_us is not None:
        data["var_scenario_date"] = to_date(event.scenario_us)
    return Worded("risk_measure", data)


def dashboard_update(event: DashboardUpdate) -> Worded:
    """What happened in one window of time."""
    data: dict[str, object] = {
        "window_id": event.window_id,
        "update_type": event.update_type,
        **({"counts": event.values} if event.update_type == "window" else event.values),
    }
    if event.window_start_us is not None and event.window_end_us is not None:
        data["window_start"] = to_rfc3339(event.window_start_us)
        data["window_end"] = to_rfc3339(event.window_end_us)
    return Worded("dashboard_update", data)


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
