import json
from typing import Any

import pytest

from cli import training_tasks
from cli.errors import EdgeUnreachable, RequestRefused
from cli.training_tasks import Cost, compare, follow, line_of, poll, request, staleness_s
from infra.embedded_broker import free_port
from tests.support.scripted_server import scripted


def status(stage: str, second: int) -> dict[str, Any]:
    return {
        "task_id": "T",
        "status": stage,
        "progress": second,
        "message": f"second {second}",
        "error": "it broke" if stage == "FAILURE" else None,
        "updated_at": f"2026-01-01T00:00:{second:02}Z",
    }


def block(number: int, stage: str, second: int) -> str:
    return f"id: {number}\ndata: {json.dumps(status(stage, second))}\n\n"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_tasks, "_RECONNECT_S", 0.01)
    monkeypatch.setattr(training_tasks, "POLL_S", 0.01)


async def test_a_request_returns_the_new_tasks_id() -> None:
    with scripted({"POST /trainmodel/": [(200, {"task_id": "T"})]}) as edge:
        assert await request(edge.url, "m", "gas", "secret") == "T"
    assert edge.received[0].body == {"meter_id": "m", "meter_type": "gas"}
    assert edge.received[0].headers["authorization"] == "Bearer secret"


async def test_a_lost_connection_is_resumed_after_the_last_id() -> None:
    streams = [
        (200, block(1, "FETCHING_DATA", 1) + "id: 7\n\n"),
        (200, block(8, "TRAINING_MODEL", 2) + block(9, "SUCCESS", 3) + block(10, "SUCCESS", 4)),
    ]
    with scripted({"GET /trainmodel/stream/T": list(streams)}) as edge:
        found = [known["progress"] async for known in follow(edge.url, "T")]
    assert found == [1, 2, 3]
    assert [seen.headers.get("last-event-id") for seen in edge.received] in (
        [None, "1"],
        [None, "7"],
    )


async def test_an_ended_task_has_no_stream() -> None:
    with scripted({"GET /trainmodel/stream/T": [(204, "")]}) as edge:
        assert [known async for known in follow(edge.url, "T")] == []


async def test_an_unknown_task_is_refused_with_the_edges_reason() -> None:
    with (
        scripted({"GET /trainmodel/stream/T": [(404, {"detail": "no task T"})]}) as edge,
        pytest.raises(RequestRefused, match="no task T"),
    ):
        await anext(follow(edge.url, "T"))


async def test_no_edge_is_named() -> None:
    url = f"http://localhost:{free_port()}"
    with pytest.raises(EdgeUnreachable, match=f"no edge answers at {url} .* starts one"):
        await request(url, "m", "gas")


async def test_a_poll_counts_its_requests_and_bytes() -> None:
    script = [(200, status("TRAINING_MODEL", 1)), (200, status("SUCCESS", 2))]
    cost = Cost()
    with scripted({"GET /trainmodel/status/T": list(script)}) as edge:
        await poll(edge.url, "T", cost)
    assert cost.requests == 2
    assert cost.bytes > sum(len(json.dumps(body)) for _, body in script)
    assert [known["progress"] for _, known in cost.seen] == [1, 2]


async def test_polling_and_streaming_are_compared_in_a_table() -> None:
    lines: list[str] = []
    script: dict[str, list[tuple[int, Any]]] = {
        "GET /trainmodel/status/T": [(200, status("SUCCESS", 2))],
        "GET /trainmodel/stream/T": [
            (200, block(1, "TRAINING_MODEL", 1) + block(2, "SUCCESS", 2)),
        ],
    }
    with scripted(script) as edge:
        answer = await compare(edge.url, "T", lines.append)
    table = {line[:22].strip(): line[22:].split() for line in answer.lines[2:]}
    assert table["requests"] == ["1", "1"]
    assert table["changes seen"] == ["1", "2"]
    assert len(lines) == 2
    assert answer.document["task_id"] == "T"
    assert answer.document["streaming"]["changes_seen"] == 2


async def test_a_failed_comparison_raises_the_reason() -> None:
    with scripted({}) as edge, pytest.raises(RequestRefused, match="nothing at"):
        await compare(edge.url, "T", lambda _: None)


def test_staleness_is_the_mean_time_from_a_change_to_the_status_that_shows_it() -> None:
    changes = [1767225601.0, 1767225602.0]  # seconds 1 and 2 of 2026
    cost = Cost(seen=[(1767225601.5, status("A", 1)), (1767225603.0, status("B", 2))])
    assert staleness_s(cost, changes) == pytest.approx(0.75)
    assert staleness_s(Cost(), changes) == 0.0


def test_a_line_has_stage_progress_and_the_error_or_message() -> None:
    assert line_of(status("FAILURE", 9)).split() == ["FAILURE", "9%", "it", "broke"]
    assert line_of(status("SUCCESS", 9)).endswith("second 9")
