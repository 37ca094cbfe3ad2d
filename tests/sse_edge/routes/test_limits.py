"""Temporary limits in requests and responses; the rest is in `tests/journeys/test_desk.py`."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.events import RiskLimit
from sse_edge.errors import InvalidParameter
from sse_edge.routes.limits import LimitsRequest, limit_of, shown_limit

TEMPORARY = {"limit": 0.07, "valid_until": "2999-01-01T00:00:00+01:00", "approved_by": "bob"}


def parsed(**temporary: Any) -> RiskLimit:
    limit = {"metric": "var_95", "limit": 0.05, "temporary": TEMPORARY | temporary}
    [metric_limit] = LimitsRequest.model_validate({"limits": [limit]}).limits
    return limit_of(metric_limit)


def test_a_temporary_limit_is_kept_and_shown_in_utc() -> None:
    limit = parsed()
    assert (limit.limit, limit.temporary_limit, limit.approved_by) == (0.05, 0.07, "bob")
    shown = shown_limit(limit)
    assert shown["temporary"] == TEMPORARY | {"valid_until": "2998-12-31T23:00:00Z"}
    assert "valid_until_us" not in shown


def test_a_limit_without_a_temporary_one_is_shown_as_before() -> None:
    assert shown_limit(RiskLimit("var_95", 0.05)) == {
        "metric": "var_95",
        "limit": 0.05,
        "hysteresis": 0.1,
        "warn_ratio": None,
        "critical_ratio": None,
        "raise_after": 1,
        "clear_after": 1,
    }


@pytest.mark.parametrize(
    ("temporary", "why"),
    [
        ({"limit": 0.05}, "it must be above the limit, 0.05"),
        ({"limit": float("nan")}, "finite"),
        ({"valid_until": "2999-01-01T00:00:00"}, "timezone"),
        ({"approved_by": ""}, "at least 1 character"),
    ],
)
def test_a_temporary_limit_is_refused_with_the_reason(temporary: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        parsed(**temporary)


def test_a_temporary_limit_must_end_in_the_future() -> None:
    with pytest.raises(InvalidParameter, match=r"valid_until: .* ends at 2020-01-01T00:00:00Z"):
        parsed(valid_until="2020-01-01T00:00:00Z")
