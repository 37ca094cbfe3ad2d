"""Limits as commands send them to an edge and print them, of portfolios and books alike."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

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


def limit_of(  # noqa: PLR0913  # each is an option of the commands
    metric: str,
    limit: float,
    *,
    warn_ratio: float | None = None,
    critical_ratio: float | None = None,
    hysteresis: float | None = None,
    raise_after: int | None = None,
    clear_after: int | None = None,
    temporary_limit: float | None = None,
    valid_until: str | None = None,
    approved_by: str | None = None,
) -> dict[str, object]:
    """Return the limit that the options of a command make, as edges take it.

    Hysteresis and counts of measures that are not given are left out: the edge has defaults.
    """
    new_limit: dict[str, object] = {
        "metric": metric if ":" in metric else metric.lower(),
        "limit": limit,
        "warn_ratio": warn_ratio,
        "critical_ratio": critical_ratio,
    }
    runs = {"hysteresis": hysteresis, "raise_after": raise_after, "clear_after": clear_after}
    new_limit |= {name: value for name, value in runs.items() if value is not None}
    if any(part is not None for part in (temporary_limit, valid_until, approved_by)):
        new_limit["temporary"] = {
            "limit": temporary_limit,
            "valid_until": valid_until,
            "approved_by": approved_by,
        }
    return new_limit


def temporary_text(limit: Mapping[str, Any] | None) -> str:
    """Return what a line says of a temporary limit, and nothing if there is none."""
    if limit is None:
        return ""
    return f"{limit['limit']:g} until {limit['valid_until']} by {limit['approved_by']}; "
