import io
import logging
from collections.abc import Generator

import pytest

from sse_edge.failure_log import LINES_MAX
from sse_edge.http.log_privacy import hide_tokens

NAMES = ("uvicorn.error", "websockets", "httpx", "httpcore")


@pytest.fixture(autouse=True)
def restored() -> Generator[None]:
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(logger, logger.level, list(logger.filters)) for logger in loggers]
    yield
    for logger, level, filters in before:
        logger.setLevel(level)
        logger.filters[:] = filters


def test_a_line_of_the_server_has_no_query() -> None:
    hide_tokens()
    logger = logging.getLogger("uvicorn.error")
    logger.setLevel("INFO")
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logger.addHandler(handler)
    try:
        logger.info('%s - "WebSocket %s" %d', "10.0.0.1", "/ws/backtest/x?token=s3cr3t&y=z", 403)
        logger.info("what is this? a line without an address")
    finally:
        logger.removeHandler(handler)
    assert written.getvalue().splitlines() == [
        '10.0.0.1 - "WebSocket /ws/backtest/x" 403',
        "what is this a line without an address",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_lines_with_headers_and_addresses_are_not_logged_at_any_level(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    hide_tokens()
    logging.getLogger(name).debug("> Authorization: Bearer s3cr3t")
    assert caplog.text == ""


def test_a_flood_of_lines_of_the_server_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    server = logging.getLogger("uvicorn.error")
    caplog.set_level("INFO", logger=server.name)
    hide_tokens()
    for _ in range(2 * LINES_MAX):
        server.warning("Unsupported upgrade request.")
    caplog.clear()
    hide_tokens()  # for another edge in this process, whose lines are counted anew
    for _ in range(2 * LINES_MAX):
        server.warning("Unsupported upgrade request.")
        server.warning("Invalid HTTP request received.")
    lines = [record.getMessage() for record in caplog.records if record.name == server.name]
    assert set(lines) == {"Unsupported upgrade request."}
    assert LINES_MAX <= len(lines) < 2 * LINES_MAX
