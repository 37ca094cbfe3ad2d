import logging
import re

import pytest

from sse_edge.http.refusals import LINES_MAX, RefusalLog, log_refusal


def test_a_refusal_is_one_line_with_its_id_and_without_the_query(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scope = {"method": "GET", "path": "/x", "query_string": b"token=t", "client": ("192.0.2.1", 9)}
    with caplog.at_level(logging.INFO):
        refusal_id = log_refusal(scope, 401, "unauthorized", "the token is invalid")
    assert re.fullmatch("[0-9a-f]{12}", refusal_id)
    expected = (
        f"refused {refusal_id}: unauthorized 401 to GET /x of 192.0.2.1: the token is invalid"
    )
    assert caplog.messages == [expected]


def test_a_flood_of_refusals_is_counted_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 100.0
    log = RefusalLog(lambda: now_s)
    with caplog.at_level(logging.INFO):
        for number in range(LINES_MAX + 30):
            log.write("number %d", number)
        assert len(caplog.messages) == LINES_MAX
        now_s = 101.0
        log.write("later")
    assert caplog.messages[LINES_MAX:] == ["30 more refusals were not logged", "later"]
