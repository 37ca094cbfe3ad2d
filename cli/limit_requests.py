"""Limits as commands send them to an edge and print them, of portfolios and books alike."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from cli.errors import InvalidArgument

_APPROVER_CHARS_MAX = 256
_MEASURES_MAX = 1_000


def check_bounds(body: Mapping[str, Any]) -> None:
    """Check the limits that options give by the bounds of the edge, and name the wrong option.

    Raises:
        InvalidArgument: an option is out of its range, or lacks another one.
    """
    stale_after_s = body["stale_after_s"]
    if stale_after_s is not None and not 0 < stale_after_s < float("inf"):
        raise InvalidArgument(
            f"--stale-after is {stale_after_s}; it must be a finite number of seconds above 0"
        )
    for limit in body["limits"]:
        _check_thresholds(limit)
        if limit.get("temporary") is not None:
            _check_temporary(limit["limit"], **limit["temporary"])


def _check_thresholds(limit: Mapping[str, Any]) -> None:
    bound, warn, critical = limit["limit"], limit["warn_ratio"], limit["critical_ratio"]
    hysteresis = limit.get("hysteresis")
    if not 0 < bound < float("inf"):
        raise InvalidArgument(f"LIMIT is {bound}; it must be a finite number above 0")
    if warn is not None and not 0 < warn < 1:
        raise InvalidArgument(f"--warn-ratio is {warn}; it must be between 0 and 1")
    if critical is not None and not 1 < critical < float("inf"):
        raise InvalidArgument(f"--critical-ratio is {critical}; it must be finite and above 1")
    if hysteresis is not None and not 0 <= hysteresis < 1:
        raise InvalidArgument(f"--hysteresis is {hysteresis}; it must be from 0 to below 1")
    for name in ("raise_after", "clear_after"):
        count = limit.get(name)
        if count is not None and not 1 <= count <= _MEASURES_MAX:
            option = name.replace("_", "-")
            raise InvalidArgument(f"--{option} is {count}; it must be from 1 to {_MEASURES_MAX}")


def _check_temporary(
    bound: float, limit: float | None, valid_until: str | None, approved_by: str | None
) -> None:
    if limit is None or valid_until is None or approved_by is None:
        raise InvalidArgument("give --temporary-limit, --valid-until and --approved-by together")
    if not bound < limit < float("inf"):
        raise InvalidArgument(
            f"--temporary-limit is {limit}; it must be finite and above the limit, {bound}"
        )
    try:
        has_zone = datetime.fromisoformat(valid_until).tzinfo is not None
    except ValueError:
        has_zone = False
    if not has_zone:
        raise InvalidArgument(
            f"--valid-until is {valid_until!r}; give a time with its time zone, "
            "such as 2026-12-31T18:00:00Z"
        )
    if not 1 <= len(approved_by) <= _APPROVER_CHARS_MAX:
        raise InvalidArgument(f"--approved-by must have 1 to {_APPROVER_CHARS_MAX} characters")


class Runs(NamedTuple):
    """When a limit's alerts are raised and cleared; the edge has defaults for what is None."""

    hysteresis: float | None = None
    raise_after: int | None = None
    clear_after: int | None = None


class Temporary(NamedTuple):
    """Another limit until a time; None for none."""

    limit: float | None = None
    valid_until: str | None = None
    approved_by: str | None = None


_DEFAULT_RUNS = Runs()
_NOT_TEMPORARY = Temporary()


def limit_of(
    metric: str,
    limit: float,
    warn_ratio: float | None = None,
    critical_ratio: float | None = None,
    runs: Runs = _DEFAULT_RUNS,
    temporary: Temporary = _NOT_TEMPORARY,
) -> dict[str, object]:
    """Return the limit that the options of a command make, as edges take it."""
    new_limit: dict[str, object] = {
        "metric": metric if ":" in metric else metric.lower(),
        "limit": limit,
        "warn_ratio": warn_ratio,
        "critical_ratio": critical_ratio,
    }
    given = runs._asdict().items()
    new_limit |= {name: value for name, value in given if value is not None}
    if temporary != _NOT_TEMPORARY:
        new_limit["temporary"] = temporary._asdict()
    return new_limit


def body_of(
    limit: Mapping[str, object], stale_after_s: float | None, comment: str
) -> dict[str, object]:
    """Return the body of a request that replaces the limits by one.

    Raises:
        InvalidArgument: an option is out of its range, or lacks another one.
    """
    body: dict[str, object] = {
        "limits": [limit],
        "stale_after_s": stale_after_s,
        "comment": comment,
    }
    check_bounds(body)
    return body


def temporary_text(limit: Mapping[str, Any] | None) -> str:
    """Return what a line says of a temporary limit, and nothing if there is none."""
    if limit is None:
        return ""
    return f"{limit['limit']:g} until {limit['valid_until']} by {limit['approved_by']}; "
