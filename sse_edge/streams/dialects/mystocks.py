"""The MyStocks dialect: named events, whose data is an envelope with name, data and time.

This module is pure: it turns a record into an event's name and data. The time in the envelope is
the log's, so that every node renders a record alike.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from operator import attrgetter
from typing import Any, cast

from schemas.events import (
    BacktestProgress,
    BookRisk,
    DashboardUpdate,
    InputGap,
    ModelBacktest,
    NotificationDelivery,
    RiskAlert,
    RiskEstimate,
    RiskMeasure,
    StressLoss,
    TrainingProgress,
)
from schemas.instants import to_date, to_rfc3339
from sse_edge.streams.dialect import ClientInfo, Dialect, EventBlock, Rendered

_BOOK_DETAILS = (
    *("event_id", "supersedes", "reason", "method", "gross", "net", "currency", "calendar"),
    *("first_day", "last_day", "scenario_day", "corrections", "missing_days", "excluded"),
    *("stale_prices", "missing_policy", "diversification_95", "concentration"),
)
"""The fields that a book's risk has since its schema's fourth version."""


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


MYSTOCKS: Dialect = Dialect(
    "mystocks", wrap=_wrapped, notice=_notice, opening=_connected, heartbeat=_ping
)


MANY = "mystocks_many"
"""The name of the dialect of several channels in one connection."""


def many(channel: str, entity_field: str) -> Dialect:
    """Return the dialect of a channel that shares its connection with others.

    Each event has a field `stream`, `CHANNEL:ENTITY`, or the channel only if it is of no entity.

    Args:
        channel: the channel's name.
        entity_field: the field of an event's data that names its entity.
    """

    def wrap(rendered: Rendered, timestamp: str) -> EventBlock:
        entity = rendered.data.get(entity_field)
        stream = {"stream": channel if entity is None else f"{channel}:{entity}"}
        return EventBlock(
            rendered.event, envelope(rendered.event, rendered.data, timestamp) | stream
        )

    return replace(MYSTOCKS, name=MANY, wrap=wrap)


def envelope(event: str, data: Mapping[str, object], timestamp: str) -> dict[str, object]:
    """Return the data of an event."""
    return {"event": event, "data": data, "timestamp": timestamp}


def training_progress(event: TrainingProgress) -> Rendered:
    """Render the progress of a training run."""
    data: dict[str, object] = {
        "task_id": event.task_id,
        "progress": event.progress,
        "status": event.status,
        "message": event.message,
        "metrics": event.all_metrics,
    }
    return Rendered("training_progress", data, ends=event.ends)


def backtest_progress(event: BacktestProgress) -> Rendered:
    """Render the progress of a backtest."""
    data: dict[str, object] = {
        "backtest_id": event.backtest_id,
        "progress": event.progress,
        "status": event.status,
        "message": event.message,
        "current_date": event.current_date,
        "results": event.all_results,
    }
    return Rendered("backtest_progress", data, ends=event.ends)


def risk_alert(event: RiskAlert) -> Rendered:
    """Render a transition of an alert."""
    data = _explained(event)
    data["as_of"] = to_rfc3339(event.event_time_us)
    if event.limit_until_us is not None:
        data["limit_until"] = to_rfc3339(event.limit_until_us)
    if event.scenario_us is not None:
        data["var_scenario_date"] = to_date(event.scenario_us)
    return Rendered("risk_alert", data)


def risk_measure(event: RiskMeasure | InputGap) -> Rendered:
    """Render a measure of a portfolio's window, or what is missing from the measures."""
    if isinstance(event, InputGap):
        missing = {
            name: getattr(event, name)
            for name in ("topic", "partition", "from_offset", "to_offset")
        }
        return Rendered("gap", {"reason": event.reason, "partitions": [missing]})
    data = _explained(event)
    data["as_of"] = to_rfc3339(event.as_of_us)
    data["estimates"] = [_estimate(estimate) for estimate in event.estimates]
    tests = [_backtest(test) for test in event.model_backtests]
    if event.corrections:
        for shown, test in zip(tests, event.model_backtests, strict=True):
            shown["restated"] = test.restated
    data["model_backtests"] = tests
    _show_stress(data, event.stress)
    if event.scenario_us is not None:
        data["var_scenario_date"] = to_date(event.scenario_us)
    return Rendered("risk_measure", data)


def book_risk(event: BookRisk) -> Rendered:
    """Render the risk of a book and the contributions of its parts."""
    data = _fields(event)
    del data["tenant"], data["stale_price_days"]
    if event.stale_price_days:
        data["stale_price_days"] = [price._asdict() for price in event.stale_price_days]
    if event.event_id is None:  # an earlier release has measured the book
        for name in _BOOK_DETAILS:
            del data[name]
    else:
        data["missing_days"] = [missing._asdict() for missing in event.missing_days]
        data["excluded"] = [excluded._asdict() for excluded in event.excluded]
    data["path"] = event.path
    data["as_of"] = to_rfc3339(event.as_of_us)
    data["estimates"] = [_estimate(estimate) for estimate in event.estimates]
    data["parts"] = [part._asdict() for part in event.parts]
    _show_stress(data, event.stress)
    if event.scenario_us is not None:
        data["var_scenario_date"] = event.scenario_day or to_date(event.scenario_us)
    return Rendered("book_risk", data)


def notification_delivery(event: NotificationDelivery) -> Rendered:
    """Render what became of a message of a notification route."""
    data = _fields(event)
    del data["owner"]
    return Rendered("notification_delivery", data)


def owner_of_delivery(event: NotificationDelivery) -> str | None:
    """Return the user whose jobs or tasks a message tells of; None where it is about alerts."""
    return event.owner


def _show_stress(data: dict[str, object], stress: Sequence[StressLoss]) -> None:
    """Show the losses in stress scenarios, where there are any."""
    del data["stress"]
    if stress:
        data["stress"] = [loss._asdict() for loss in stress]


def _estimate(estimate: RiskEstimate) -> dict[str, object]:
    """Render an estimate; what only some methods have is left out where it is empty."""
    data = {
        name: value
        for name, value in estimate._asdict().items()
        if name not in _SOME_ESTIMATES or not (value is None or value is False or value == "")
    }
    data["as_of"] = to_rfc3339(data.pop("as_of_us"))
    return data


_SOME_ESTIMATES = frozenset({"dof", "var_error", "es_error", "overlapping", "reason"})


def _backtest(test: ModelBacktest) -> dict[str, object]:
    """Render a backtest; those of earlier releases have nothing about the zone's days."""
    data = test._asdict()
    return data if test.days else {name: data[name] for name in _FIRST_OF_BACKTEST}


_FIRST_OF_BACKTEST = ModelBacktest._fields[: ModelBacktest._fields.index("days")]


def dashboard_update(event: DashboardUpdate) -> Rendered:
    """Render the counts of one time window."""
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


def _explained(event: RiskAlert | RiskMeasure) -> dict[str, object]:
    """Return an event's fields, those that explain it only where they are set."""
    later = _EXPLAINING[type(event)]
    data = {
        name: value
        for name, value in _fields(event).items()
        if name not in later or not (value is None or value is False or value == "")
    }
    if event.window_first_us is not None and event.window_last_us is not None:
        data["window_first"] = to_rfc3339(event.window_first_us)
        data["window_last"] = to_rfc3339(event.window_last_us)
    return data


def _fields_from(kind: type[Any], first: str) -> frozenset[str]:
    """Return the names of a class's fields from one on."""
    names = [field.name for field in fields(kind)]
    return frozenset(names[names.index(first) :])


_EXPLAINING = {
    RiskAlert: _fields_from(RiskAlert, "acknowledged"),
    RiskMeasure: _fields_from(RiskMeasure, "supersedes"),
}
"""The fields that events have not had from the beginning."""


def _fields(event: Any) -> dict[str, object]:
    """Return an event's fields, without those in microseconds."""
    names, values = _getter(cast("Hashable", type(event)))
    return dict(zip(names, values(event), strict=True))


@cache
def _getter(kind: Hashable) -> tuple[tuple[str, ...], Callable[[Any], tuple[object, ...]]]:
    names = tuple(
        field.name for field in fields(cast("type[Any]", kind)) if not field.name.endswith("_us")
    )
    return names, attrgetter(*names)
