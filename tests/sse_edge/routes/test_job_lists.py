"""The first events of a list of jobs: a snapshot that fits in an event, then the others."""

from dataclasses import replace

from sse_edge.frame import FRAME_BYTES_MAX
from sse_edge.http.sse_response import event_block
from sse_edge.routes.job_lists import HISTORY, JOBS, first_events
from sse_edge.streams.dialects.backtest import backtest, job as as_job
from tests.sse_edge.routes.test_job_list import job


def test_a_short_list_is_one_snapshot_newest_first() -> None:
    jobs = [job(name) for name in "cba"]
    assert first_events(JOBS, jobs) == [("snapshot", {"jobs": [as_job(each) for each in jobs]})]
    assert first_events(HISTORY, []) == [("snapshot", {"backtests": []})]


def test_of_a_long_list_the_snapshot_has_the_oldest_and_the_rest_are_added_on_top() -> None:
    summary = '{"text":"' + "x" * 20_000 + '"}'
    jobs = [replace(job(name), result_summary=summary) for name in "hgfedcba"]
    (name, snapshot), *added = first_events(HISTORY, jobs)
    block = event_block({"event": name, "data": snapshot, "id": "x" * 128})
    assert FRAME_BYTES_MAX - 20_500 < len(block) <= FRAME_BYTES_MAX
    shown = snapshot["backtests"]
    assert isinstance(shown, list)
    assert (name, len(shown)) == ("snapshot", 3)
    for event, data in added:
        assert event == "backtest_added"
        shown.insert(0, data["backtest"])  # as clients do
    assert shown == [backtest(each) for each in jobs]


def test_a_job_that_is_too_large_for_an_event_is_listed_without_its_result() -> None:
    result = '{"text":"' + "x" * (FRAME_BYTES_MAX - 100) + '"}'
    large, small = replace(job("b"), result_summary=result), job("a")
    [(name, snapshot)] = first_events(HISTORY, [large, small])
    shown = snapshot["backtests"]
    assert isinstance(shown, list)
    assert (name, [each["job_id"] for each in shown]) == ("snapshot", ["b", "a"])
    assert shown[0]["result_summary"] is None
    assert f"at most {FRAME_BYTES_MAX}" in shown[0]["result_error"]
    assert shown[1] == backtest(small)
