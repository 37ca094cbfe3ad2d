"""The training-task dialect, word for word."""

import json
from dataclasses import replace

from schemas.events import TaskStep, TrainingProgress
from sse_edge.streams.dialect import ClientInfo
from sse_edge.streams.dialects.training import TRAINING_TASK, status
from sse_edge.streams.requests import of_entities
from tests.support.sse import Reader

RUNNING = TrainingProgress(
    task_id="T1",
    progress=75.0,
    status="running",
    message="Training model...",
    metrics={"loss": 0.5},
    event_time_us=1_705_314_735_123_456,
    task=TaskStep(stage="TRAINING_MODEL", estimated_completion_us=1_705_314_900_000_000),
)
ALONE = ClientInfo("c", "trainmodel", ("T1",))
NOW = "2024-01-15T10:32:20.000000Z"


def test_a_status_has_the_fields_that_clients_read() -> None:
    assert status(RUNNING).data == {
        "task_id": "T1",
        "status": "TRAINING_MODEL",
        "progress": 75,
        "message": "Training model...",
        "updated_at": "2024-01-15T10:32:15.123456Z",
        "estimated_completion": "2024-01-15T10:35:00Z",
        "result": None,
        "error": None,
        "error_details": None,
        "attempt": 1,
    }


def test_a_failure_says_why_and_a_success_what() -> None:
    failed = replace(
        RUNNING,
        status="failed",
        task=TaskStep(stage="FAILURE", error="no data", error_details="x"),
    )
    assert (status(failed).data["error"], status(failed).data["error_details"]) == ("no data", "x")
    assert status(failed).ends
    details: dict[str, int | float | str] = {"model_path": "gas/m.joblib", "data_points": 8760}
    done = replace(
        RUNNING, status="completed", message="ok", task=TaskStep(stage="SUCCESS", details=details)
    )
    assert status(done).data["result"] == {"status": "success", "message": "ok", "details": details}


def test_a_run_that_a_training_loop_reports_is_a_task_as_well() -> None:
    found = [
        status(replace(RUNNING, task=None, status=item)).event
        for item in ("started", "running", "completed", "failed")
    ]
    assert found == ["TRAINING_MODEL", "TRAINING_MODEL", "SUCCESS", "FAILURE"]


def test_a_word_of_a_training_loops_own_and_any_metrics_are_passed_on() -> None:
    paused = status(replace(RUNNING, task=None, status="paused"))
    assert (paused.data["status"], paused.ends) == ("paused", False)
    metrics = {"loss": 0.5, "layers": ["a", "b"]}
    done = replace(RUNNING, task=None, status="completed", metrics_json=json.dumps(metrics))
    result = status(done).data["result"]
    assert result["details"] == metrics


def test_retry_stands_in_the_first_block_whatever_that_is() -> None:
    first = Reader().feed(
        TRAINING_TASK.open(ALONE, NOW, 3000) + TRAINING_TASK.beat(ALONE, NOW) + b": x\n"
    )
    assert len(first) == 1
    assert first[0].retry_ms == 3000
    assert first[0].json == {"task_id": "T1", "type": "heartbeat", "timestamp": NOW}


def test_a_gap_and_an_error_reach_clients_that_know_only_messages() -> None:
    gap = TRAINING_TASK.notice(ALONE, "gap", {"reason": "expired", "partitions": []}, NOW)
    assert gap == (
        None,
        {"task_id": "T1", "type": "gap", "reason": "expired", "partitions": [], "timestamp": NOW},
    )
    error = {"reason": "no_broker", "message": "Kafka is away"}
    assert TRAINING_TASK.notice(ALONE, "error", error, NOW).data == {
        "task_id": "T1",
        "type": "error",
        "reason": "no_broker",
        "error": "Kafka is away",
        "timestamp": NOW,
    }


def test_several_tasks_are_named_together_where_it_is_about_all() -> None:
    stream = of_entities("trainmodel", ["b", "a"])
    assert stream.entities == ("a", "b")
    assert not stream.has_end
    said = TRAINING_TASK.notice(ClientInfo("c", "s", stream.entities), "gap", {}, NOW)
    assert said.data == {"task_ids": ["a", "b"], "type": "gap", "timestamp": NOW}
