"""Limits as the commands of portfolios and books send and print them."""

import pytest

from cli.errors import InvalidArgument
from cli.limit_requests import check_bounds, limit_of, temporary_text

UNTIL = "2026-12-31T18:00:00Z"


def test_options_make_a_limit_with_a_temporary_one_where_any_of_its_options_is_given() -> None:
    plain = limit_of("VAR_95", 0.05, 0.8, None, None, None, None)
    assert plain == {"metric": "var_95", "limit": 0.05, "warn_ratio": 0.8, "critical_ratio": None}
    stressed = limit_of("stress_loss:Oil", 0.05, None, None, 0.06, UNTIL, "cro")
    assert stressed["metric"] == "stress_loss:Oil"
    temporary = stressed["temporary"]
    assert temporary == {"limit": 0.06, "valid_until": UNTIL, "approved_by": "cro"}
    check_bounds({"limits": [plain, stressed], "stale_after_s": None})
    partial = limit_of("var_95", 0.05, None, None, None, None, "cro")
    assert partial["temporary"] == {"limit": None, "valid_until": None, "approved_by": "cro"}


def test_a_line_names_the_temporary_limit_if_there_is_one() -> None:
    temporary = {"limit": 0.06, "valid_until": UNTIL, "approved_by": "cro"}
    assert temporary_text(temporary) == f"0.06 until {UNTIL} by cro; "
    assert not temporary_text(None)


def test_a_limit_out_of_its_bounds_is_refused_by_the_name_of_its_option() -> None:
    for limit, reason in (
        (limit_of("var_95", float("nan"), None, None, None, None, None), "LIMIT is nan"),
        (
            limit_of("var_95", 1.0, float("inf"), None, None, None, None),
            "--warn-ratio is inf; it must be between 0 and 1",
        ),
        (
            limit_of("var_95", 1.0, None, float("inf"), None, None, None),
            "--critical-ratio is inf; it must be finite",
        ),
        (limit_of("var_95", 1.0, None, None, 1.0, UNTIL, "cro"), "--temporary-limit is 1.0"),
        (limit_of("var_95", 1.0, None, None, 2.0, UNTIL, ""), "--approved-by must have 1 to 256"),
    ):
        with pytest.raises(InvalidArgument, match=reason):
            check_bounds({"limits": [limit], "stale_after_s": None})
