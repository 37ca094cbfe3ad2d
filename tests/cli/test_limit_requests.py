"""Limits as the commands of portfolios and books send and print them."""

import pytest

from cli.errors import InvalidArgument
from cli.limit_requests import Runs, Temporary, body_of, check_bounds, limit_of, temporary_text

UNTIL = "2026-12-31T18:00:00Z"


def test_options_make_a_limit_with_a_temporary_one_where_any_of_its_options_is_given() -> None:
    plain = limit_of("VAR_95", 0.05, warn_ratio=0.8)
    assert plain == {"metric": "var_95", "limit": 0.05, "warn_ratio": 0.8, "critical_ratio": None}
    stressed = limit_of("stress_loss:Oil", 0.05, temporary=Temporary(0.06, UNTIL, "cro"))
    assert stressed["metric"] == "stress_loss:Oil"
    temporary = stressed["temporary"]
    assert temporary == {"limit": 0.06, "valid_until": UNTIL, "approved_by": "cro"}
    check_bounds({"limits": [plain, stressed], "stale_after_s": None})
    partial = limit_of("var_95", 0.05, temporary=Temporary(approved_by="cro"))
    assert partial["temporary"] == {"limit": None, "valid_until": None, "approved_by": "cro"}


def test_hysteresis_and_runs_of_measures_are_sent_where_they_are_given() -> None:
    limit = limit_of("var_95", 0.05, runs=Runs(0.0, 2, 1_000))
    runs = {"hysteresis": 0.0, "raise_after": 2, "clear_after": 1_000}
    assert limit == limit_of("var_95", 0.05) | runs
    check_bounds({"limits": [limit], "stale_after_s": None})


def test_a_body_is_checked_before_it_is_sent() -> None:
    limit = limit_of("var_95", 0.05)
    assert body_of(limit, 60.0, "why") == {
        "limits": [limit],
        "stale_after_s": 60.0,
        "comment": "why",
    }
    with pytest.raises(InvalidArgument, match="--stale-after is 0"):
        body_of(limit, 0.0, "")


def test_a_line_names_the_temporary_limit_if_there_is_one() -> None:
    temporary = {"limit": 0.06, "valid_until": UNTIL, "approved_by": "cro"}
    assert temporary_text(temporary) == f"0.06 until {UNTIL} by cro; "
    assert not temporary_text(None)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (limit_of("var_95", float("nan")), "LIMIT is nan"),
        (
            limit_of("var_95", 1.0, warn_ratio=float("inf")),
            "--warn-ratio is inf; it must be between 0 and 1",
        ),
        (
            limit_of("var_95", 1.0, critical_ratio=float("inf")),
            "--critical-ratio is inf; it must be finite",
        ),
        (
            limit_of("var_95", 1.0, runs=Runs(hysteresis=1.0)),
            "--hysteresis is 1.0; it must be",
        ),
        (limit_of("var_95", 1.0, runs=Runs(hysteresis=float("nan"))), "--hysteresis is nan"),
        (limit_of("var_95", 1.0, runs=Runs(hysteresis=-0.1)), "--hysteresis is -0.1"),
        (
            limit_of("var_95", 1.0, runs=Runs(raise_after=0)),
            "--raise-after is 0; it must be",
        ),
        (limit_of("var_95", 1.0, runs=Runs(clear_after=1_001)), "--clear-after is 1001"),
        (
            limit_of("var_95", 1.0, temporary=Temporary(1.0, UNTIL, "cro")),
            "--temporary-limit is 1.0",
        ),
        (
            limit_of("var_95", 1.0, temporary=Temporary(2.0, UNTIL, "")),
            "--approved-by must have 1 to 256",
        ),
    ],
)
def test_a_limit_out_of_its_bounds_is_refused_by_the_name_of_its_option(
    limit: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        check_bounds({"limits": [limit], "stale_after_s": None})
