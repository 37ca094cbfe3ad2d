"""States of runs do not depend on where reading stopped and which events are read again."""

from hypothesis import given, strategies as st

from schemas.events import BacktestProgress, JobStep, StoryState, TaskStep, TrainingProgress
from stream_processors.lifecycle import next_job_state, next_task_state


def event(status: str, stage: str | None = None) -> TrainingProgress:
    return TrainingProgress(
        task_id="T",
        progress=0.0,
        status=status,
        message="",
        metrics={},
        event_time_us=0,
        task=None if stage is None else TaskStep(stage=stage),
    )


def folded(
    events: list[TrainingProgress], known: StoryState | None = None, start: int = 0
) -> StoryState | None:
    for offset, progress in enumerate(events[start:], start):
        known = next_task_state(known, progress, 3, offset) or known
    return known


RUNS = st.lists(st.sampled_from(["started", "running", "completed", "failed"]), min_size=1)


@given(RUNS, st.data())
def test_reading_events_again_changes_nothing(statuses: list[str], data: st.DataObject) -> None:
    events = [event(status) for status in statuses]
    straight = folded(events)
    stopped = data.draw(st.integers(1, len(events)))
    again_from = data.draw(st.integers(0, stopped))
    assert folded(events, folded(events[:stopped]), again_from) == straight


@given(RUNS)
def test_a_task_starts_with_its_first_event_and_ends_with_its_first_end(
    statuses: list[str],
) -> None:
    state = folded([event(status) for status in statuses])
    endings = [at for at, status in enumerate(statuses) if status in ("completed", "failed")]
    last = endings[0] if endings else len(statuses) - 1
    assert state == StoryState(
        subject="T",
        status=statuses[last],
        partition=3,
        first_offset=0,
        last_offset=last,
        ended=bool(endings),
    )


def test_a_tasks_status_is_its_stage() -> None:
    state = folded([event("started", "PENDING"), event("started", "FETCHING_DATA")])
    assert state is not None
    assert (state.status, state.ended) == ("FETCHING_DATA", False)


def test_a_job_keeps_the_status_before_its_last_event() -> None:
    state = None
    for offset, kind in enumerate(("submitted", "progress", "progress", "completed", "progress")):
        progress_event = BacktestProgress(
            backtest_id="J",
            progress=0.0,
            status="running",
            message="",
            results={},
            event_time_us=offset,
            job=JobStep(kind=kind, symbol="IBM", strategy="rsi"),
        )
        state = next_job_state(state, progress_event, 3, offset) or state
        assert state is not None
        seen = (state.previous_status, state.status)
        assert (
            seen
            == [
                (None, "pending"),
                ("pending", "running"),
                ("running", "running"),
                ("running", "completed"),
                ("running", "completed"),
            ][offset]
        )
