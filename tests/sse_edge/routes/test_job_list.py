"""Lists of jobs: a client that does what it is told shows what there is."""

from dataclasses import replace

from hypothesis import given, strategies as st

from schemas.events import JobState
from sse_edge.routes.job_list import Change, changes, shown

STATUSES = ("pending", "running", "completed")


def job(name: str, status: str = "running", progress: float = 0.0) -> JobState:
    return JobState(
        job_id=name,
        status=status,
        progress=progress,
        message="",
        symbol="IBM",
        strategy="rsi",
        created_us=ord(name),
        updated_us=0,
        partition=0,
        first_offset=0,
        last_offset=0,
    )


jobs = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.tuples(st.sampled_from(STATUSES), st.sampled_from([0.0, 50.0])),
).map(lambda found: [job(name, *rest) for name, rest in found.items()])


def applied(before: list[JobState], changed: list[Change], limit: int) -> list[JobState]:
    """What a client makes of it: it puts what is added on top."""
    seen = list(before)
    for change in changed:
        match change.kind:
            case "added":
                seen.insert(0, change.job)
            case "removed":
                seen = [record for record in seen if record.job_id != change.job.job_id]
            case _:
                seen = [
                    change.job if record.job_id == change.job.job_id else record for record in seen
                ]
        assert len(seen) <= limit
    return seen


@given(jobs, jobs, st.frozensets(st.sampled_from(STATUSES)), st.integers(1, 4))
def test_a_client_that_applies_the_changes_shows_the_list(
    before: list[JobState], after: list[JobState], statuses: frozenset[str], limit: int
) -> None:
    old, new = shown(before, statuses, limit), shown(after, statuses, limit)
    seen = applied(list(old), list(changes(old, new)), limit)
    assert sorted(seen, key=lambda one: one.job_id) == sorted(new, key=lambda one: one.job_id)


@given(jobs)
def test_a_list_is_of_the_newest_first(found: list[JobState]) -> None:
    names = [item.job_id for item in shown(found, frozenset(), 100)]
    assert names == sorted(names, reverse=True)


def test_one_that_leaves_the_filter_is_removed_and_the_next_takes_its_place() -> None:
    three = [job("a"), job("b"), job("c")]
    old = shown(three, frozenset({"running"}), 2)
    assert [item.job_id for item in old] == ["c", "b"]
    ended = [job("a"), job("b"), replace(job("c"), status="completed")]
    changed = changes(old, shown(ended, frozenset({"running"}), 2))
    assert [(event.kind, event.job.job_id) for event in changed] == [
        ("removed", "c"),
        ("added", "a"),
    ]


def test_no_event_is_sent_where_nothing_has_changed() -> None:
    same = shown([job("a"), job("b")], frozenset(), 10)
    assert changes(same, same) == []
