"""Checks the arguments of a report, and makes an immutable event of them.

This module is pure: the time is an argument. JSON has no numbers that are not finite, and an event
has at most 64 KiB, so a report that breaks either is refused here, where the caller sees why.
"""

import json
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from math import isfinite
from typing import SupportsFloat, TypeVar
from uuid import NAMESPACE_URL, uuid5

from kafka_io.errors import InvalidReport
from schemas.events import (
    AlertTransition,
    BacktestProgress,
    DashboardUpdate,
    RiskAlert,
    Severity,
    TrainingProgress,
    UserUpdate,
    UserUpdateKind,
)

NAME_CHARS_MAX = 256
MESSAGE_CHARS_MAX = 4_096
METRICS_MAX = 64
JSON_BYTES_MAX = 52_000
"""The most bytes that a message and its metrics or results have together, as escaped JSON."""

V = TypeVar("V", bound=StrEnum)


def training_progress(
    task_id: str,
    progress: float,
    status: str,
    message: str = "",
    metrics: object = None,
    *,
    now_us: int,
) -> TrainingProgress:
    """Return the event of a training run's progress, in percent.

    `status` is a `RunStatus`, or a word of the caller's own; `metrics` are a value that JSON can
    hold, best a mapping of names to numbers.

    Raises:
        InvalidReport: an argument is invalid; the message names it.
    """
    text = _text("message", message)
    numbers, as_json = _values("metrics", metrics, beside=text)
    return TrainingProgress(
        task_id=_name("task_id", task_id),
        progress=_percent("progress", progress),
        status=_name("status", status),
        message=text,
        metrics=numbers,
        event_time_us=now_us,
        metrics_json=as_json,
    )


def backtest_progress(
    backtest_id: str,
    progress: float,
    status: str,
    message: str = "",
    current_date: str | None = None,
    results: object = None,
    *,
    now_us: int,
) -> BacktestProgress:
    """Return the event of a backtest's progress, in percent, at a simulated day (YYYY-MM-DD).

    `status` and `results` are like `status` and `metrics` of `training_progress`.

    Raises:
        InvalidReport: an argument is invalid; the message names it.
    """
    text = _text("message", message)
    numbers, as_json = _values("results", results, beside=text)
    return BacktestProgress(
        backtest_id=_name("backtest_id", backtest_id),
        progress=_percent("progress", progress),
        status=_name("status", status),
        message=text,
        current_date=None if current_date is None else _day("current_date", current_date),
        results=numbers,
        event_time_us=now_us,
        results_json=as_json,
    )


def user_update(
    user_id: str, data: object, kind: str = UserUpdateKind.UPDATE, *, now_us: int
) -> UserUpdate:
    """Return the event of an update for one user; `data` is a value that JSON can hold.

    Raises:
        InvalidReport: an argument is invalid; the message names it.
    """
    return UserUpdate(
        user_id=_name("user_id", user_id),
        kind=_one_of("kind", kind, UserUpdateKind),
        data=_as_json("data", data),
        event_time_us=now_us,
    )


def risk_alert(
    alert_type: str,
    severity: str,
    message: str,
    metric_name: str,
    metric_value: float,
    threshold: float,
    entity_type: str,
    entity_id: str,
    *,
    now_us: int,
) -> RiskAlert:
    """Return the event of a metric beyond its threshold, found by a check outside the processors.

    Raises:
        InvalidReport: an argument is invalid; the message names it.
    """
    about = f"{_name('alert_type', alert_type)}:{_name('metric_name', metric_name)}"
    entity = f"{_name('entity_type', entity_type)}:{_name('entity_id', entity_id)}"
    alert_id = uuid5(NAMESPACE_URL, f"reported-alert:{about}:{entity}:{now_us}")
    return RiskAlert(
        alert_id=str(alert_id),
        transition_id=str(uuid5(alert_id, "1:raised")),
        alert_type=alert_type,
        state=AlertTransition.RAISED,
        severity=_one_of("severity", severity, Severity),
        message=_text("message", message),
        metric_name=metric_name,
        metric_value=_number("metric_value", metric_value),
        threshold=_number("threshold", threshold),
        entity_type=entity_type,
        entity_id=entity_id,
        event_time_us=now_us,
    )


def dashboard_update(
    values: Mapping[str, float], update_type: str = "custom", *, now_us: int
) -> DashboardUpdate:
    """Return the event of figures for the dashboard.

    Raises:
        InvalidReport: an argument is invalid; the message names it.
    """
    return DashboardUpdate(
        window_id=f"{_name('update_type', update_type)}:{now_us}",
        update_type=update_type,
        values=_numbers("values", values),
        event_time_us=now_us,
    )


def _name(argument: str, value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > NAME_CHARS_MAX:
        raise InvalidReport(
            f"{argument} is {_shown(value)}; it must be a text of 1 to {NAME_CHARS_MAX} characters"
        )
    return _text(argument, value)


def _text(argument: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MESSAGE_CHARS_MAX:
        raise InvalidReport(
            f"{argument} is {_shown(value)}; "
            f"it must be a text of at most {MESSAGE_CHARS_MAX} characters"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidReport(
            f"{argument} holds half a surrogate pair at character {error.start}; "
            "it must be valid Unicode"
        ) from error
    return value


def _number(argument: str, value: object) -> float:
    # A NumPy scalar is as good as a float, so every value that converts is accepted.
    if isinstance(value, (str, bytes, bool)) or not isinstance(value, SupportsFloat):
        raise InvalidReport(f"{argument} is {_shown(value)}; it must be a number")
    number = float(value)
    if not isfinite(number):
        raise InvalidReport(f"{argument} is {number}; it must be a finite number")
    return number


def _percent(argument: str, value: object) -> float:
    number = _number(argument, value)
    if not 0 <= number <= 100:  # noqa: PLR2004  # what a percentage is
        raise InvalidReport(f"{argument} is {number}; it must be from 0 to 100")
    return number


def _one_of(argument: str, value: object, allowed: type[V]) -> V:
    try:
        return allowed(str(value))
    except ValueError:
        raise InvalidReport(
            f"{argument} is {_shown(value)}; it must be one of {', '.join(allowed)}"
        ) from None


def _day(argument: str, value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except (TypeError, ValueError) as error:
        raise InvalidReport(
            f"{argument} is {_shown(value)}; it must be a day, YYYY-MM-DD"
        ) from error


def _numbers(argument: str, values: Mapping[str, float] | None) -> dict[str, float]:
    if values is None:
        return {}
    if len(values) > METRICS_MAX:
        raise InvalidReport(f"{argument} must map at most {METRICS_MAX} names to numbers")
    return {
        _name(f"a name in {argument}", name): _number(f"{argument}[{name!r}]", value)
        for name, value in values.items()
    }


def _values(argument: str, values: object, *, beside: str) -> tuple[dict[str, float], str | None]:
    """Return the numbers of a mapping, and all values as JSON where it has others.

    Args:
        argument: the name of the argument.
        values: a value that JSON can hold; None for no values.
        beside: the message, which shares the event's room.
    """
    if values is None:
        return {}, None
    if isinstance(values, Mapping):
        for name, value in values.items():
            if not isinstance(name, str):
                raise InvalidReport(f"a name in {argument} is {_shown(name)}; it must be a text")
            if _is_number(value):
                _number(f"{argument}[{name!r}]", value)
    text = _as_json(argument, values)
    size, rest = len(text), JSON_BYTES_MAX - len(json.dumps(beside))
    if size > rest:
        raise InvalidReport(
            f"{argument} has {size:,} bytes as JSON; at most {rest:,} fit beside the message"
        )
    if not isinstance(values, Mapping):
        return {}, text
    numbers = {name: float(value) for name, value in values.items() if _is_number(value)}
    is_exact = len(numbers) == len(values) and all(
        not isinstance(values[name], int) or values[name] == number
        for name, number in numbers.items()
    )
    return numbers, None if is_exact else text


def _is_number(value: object) -> bool:
    if isinstance(value, (str, bytes, bool)) or not isinstance(value, SupportsFloat):
        return False
    # An array converts, too, where it has one element, and so does a truth value of NumPy.
    return getattr(value, "shape", ()) == () and str(getattr(value, "dtype", "")) != "bool"


def _as_json(argument: str, value: object) -> str:
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=_as_plain)
        if r"\ud" in text:  # half a surrogate pair is no Unicode, and clients would refuse it
            json.dumps(value, ensure_ascii=False, default=_as_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidReport(f"{argument} cannot be encoded as JSON: {error}") from error
    return text


def _as_plain(value: object) -> object:
    """Return a value of another library as one that JSON can hold, as `json.dumps` asks for."""
    if isinstance(value, Mapping):
        return dict(value)
    tolist = getattr(value, "tolist", None)  # arrays and scalars of NumPy, series of pandas
    if callable(tolist):
        return tolist()
    if isinstance(value, SupportsFloat):
        return float(value)
    raise TypeError(f"{_shown(value)} is no value that JSON can hold")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."  # noqa: PLR2004  # a line's worth
