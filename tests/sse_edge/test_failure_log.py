import logging
import re

import pytest

from sse_edge.failure_log import LINES_MAX, LineBudget, log_failure, new_failure_id


def test_a_failure_is_one_line_with_its_id(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        failure_id = log_failure("no_broker", "to the stream alerts of ::1", "no leader")
    assert re.fullmatch("[0-9a-f]{12}", failure_id)
    assert caplog.messages == [
        f"refused {failure_id}: no_broker to the stream alerts of ::1: no leader"
    ]
    assert new_failure_id() != failure_id


def test_a_flood_of_failures_is_counted_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 100.0
    budget = LineBudget("refusals", lambda: now_s)
    with caplog.at_level(logging.INFO):
        allowed = [budget.allows() for _ in range(LINES_MAX + 30)]
        assert allowed == [True] * LINES_MAX + [False] * 30
        assert caplog.messages == []
        now_s = 101.0
        assert budget.allows()
    assert caplog.messages == ["30 more refusals were not logged"]
