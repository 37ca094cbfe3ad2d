"""An event that is written again has the same id, and different events have different ids."""

from dataclasses import replace
from typing import Any

import pytest

from schemas.events import (
    AgentEvent,
    AgentStepKind,
    BacktestProgress,
    BarChunk,
    DeadLetter,
    JobStep,
    JobStepKind,
    RunStatus,
    TaskStage,
    TaskStep,
    TrainingProgress,
)
from schemas.topics import REGISTRY
from sse_edge.streams.channels import CHANNELS

TASK = TrainingProgress(
    task_id="T",
    progress=1.0,
    status=RunStatus.RUNNING,
    message="",
    metrics={},
    event_time_us=0,
    task=TaskStep(stage=TaskStage.TRAINING_MODEL),
)
JOB = BacktestProgress(
    backtest_id="J",
    progress=1.0,
    status=RunStatus.RUNNING,
    message="",
    results={},
    event_time_us=0,
    job=JobStep(kind=JobStepKind.PROGRESS, symbol="IBM", strategy="rsi"),
)
CANCELLED = JobStep(kind=JobStepKind.CANCELLED, symbol="IBM", strategy="rsi")
STEP = AgentEvent(
    run_id="r", kind=AgentStepKind.RESPONSE_CHUNK, attempt=2, number=5, event_time_us=0
)
LETTER = DeadLetter(reason="late", error="", topic="t", partition=3, offset=7, event_time_us=0)
BARS = BarChunk(job_id="J", interval="day", first=0, total=2, bars=(), event_time_us=0)


@pytest.mark.parametrize(
    ("event", "event_id"),
    [
        (TASK, None),
        (replace(TASK, status=RunStatus.FAILED), "task:T:ended"),
        (replace(TASK, status=RunStatus.COMPLETED), "task:T:ended"),
        (replace(TASK, status=RunStatus.COMPLETED, task=None), None),
        (JOB, None),
        (replace(JOB, job=CANCELLED), "job:J:ended"),
        (replace(JOB, job=None, status=RunStatus.COMPLETED), None),
        (STEP, "run:r:2:5"),
        (replace(STEP, kind=AgentStepKind.ERROR), "run:r:ended"),
        (LETTER, "dead:t/3/7"),
        (replace(LETTER, index=4), "dead:t/3/7/4"),
        (BARS, "bars:J:day:0"),
        (replace(BARS, first=500), "bars:J:day:500"),
    ],
)
def test_the_id_says_what_the_event_is_about(event: Any, event_id: str | None) -> None:
    assert event.event_id == event_id


@pytest.mark.parametrize(
    ("kind", "ends"),
    [(kind, kind in ("completed", "failed", "cancelled")) for kind in JobStepKind],
)
def test_a_job_ends_by_the_kind_of_its_step(kind: JobStepKind, ends: bool) -> None:  # noqa: FBT001
    assert replace(JOB, job=replace(CANCELLED, kind=kind)).ends is ends


def test_ids_of_examples_are_texts_that_differ() -> None:
    ids = [
        event_id
        for channel in CHANNELS.values()
        for example in channel.examples
        if (event_id := getattr(example, "event_id", None))
    ]
    assert all(isinstance(event_id, str) for event_id in ids)
    assert len(REGISTRY) > 0
