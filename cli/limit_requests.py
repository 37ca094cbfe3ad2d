"""Limits as commands send them to an edge and print them, of portfolios and books alike."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from cli.errors import RequestRefused


def check_numbers(body: Mapping[str, Any]) -> None:
    """Check that each number of limits is one that JSON has.

    Raises:
        RequestRefused: a number is infinite or no number.
    """
    parts = [body, *body["limits"], *(limit.get("temporary") or {} for limit in body["limits"])]
    for part in parts:
        for name, value in part.items():
            if isinstance(value, float) and not isfinite(value):
                raise RequestRefused(f"{name} is {value}; it must be a finite number")


def limit_of(
    metric: str,
    limit: float,
    warn_ratio: float | None,
    critical_ratio: float | None,
    temporary_limit: float | None,
    valid_until: str | None,
    approved_by: str | None,
) -> dict[str, object]:
    """Return the limit that the options of a command make, as edges take it."""
    new_limit: dict[str, object] = {
        "metric": metric if ":" in metric else metric.lower(),
        "limit": limit,
        "warn_ratio": warn_ratio,
        "critical_ratio": critical_ratio,
    }
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
