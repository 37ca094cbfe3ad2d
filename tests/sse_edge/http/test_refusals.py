import logging
import re

import pytest

from sse_edge.http.refusals import log_refusal


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


def test_what_is_no_request_is_logged_by_its_address(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        refusal_id = log_refusal({"client": ("192.0.2.1", 9)}, 400, "malformed", "no HTTP")
    assert caplog.messages == [
        f"refused {refusal_id}: malformed 400 to what is no request of 192.0.2.1: no HTTP"
    ]
