"""The decisions of a growth, without Kafka; `tests/faults/test_grown_topics.py` has the rest."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from kafka_io.transactions import OutgoingRecord
from schemas.codec import decode, encode
from schemas.events import (
    JobState,
    PortfolioState,
    Scenario,
    TopicGrowth,
    TopicPosition,
    WindowTally,
)
from schemas.keys import encode_key, scenario_key
from schemas.topics import PORTFOLIO_RETURNS, RISK_STATE, Topic
from stream_processors import grow
from stream_processors.errors import GrowthRefused, TopicUnfit
from stream_processors.grow import check_counts, plan
from stream_processors.growths import GROWING, Growths, moves_of
from stream_processors.settings import ProcessorSettings
from stream_processors.stream_task import LogState, Recovered
from stream_processors.tasks import processors_of

WHOLE = TopicGrowth(old_count=6, new_count=12, event_time_us=0)
DONE = Growths([replace(WHOLE, is_done=True)])
UNFINISHED = Growths([WHOLE])
SCENARIO = Scenario(
    name="s", version=1, kind="hypothetical", others="zero", event_time_us=0, tenant="a"
)
SCENARIO_KEY = scenario_key("s", "a")


def test_a_growth_is_begun_finished_or_done_already() -> None:
    begun = plan(Growths(), 12)
    assert begun is not None
    assert (begun.old_count, begun.new_count, begun.is_done) == (6, 12, False)
    assert plan(UNFINISHED, 12) == WHOLE
    assert plan(DONE, 12) is None
    again = plan(DONE, 36)
    assert again is not None
    assert (again.old_count, again.new_count) == (12, 36)


@pytest.mark.parametrize(
    ("growths", "count", "reason"),
    [
        (Growths(), 8, "8 is not a multiple of 6"),
        (Growths(), 3, "3 is not a multiple of 6"),
        (DONE, 6, "6 is not a multiple of 12"),
        (UNFINISHED, 24, "the growth to 12 partitions is not finished"),
    ],
)
def test_other_counts_are_refused(growths: Growths, count: int, reason: str) -> None:
    with pytest.raises(GrowthRefused, match=reason):
        plan(growths, count)


@pytest.mark.parametrize(
    ("found", "count", "reason"),
    [
        (8, 12, "x has 8 partitions, which is not a multiple of 6"),
        (12, 24, "x has 12 partitions already; run `tapewire topics grow 12` first"),
        (5, 12, "x has 5 partitions, which is not a multiple of 6"),
        (6, 12, None),
        (12, 12, None),
    ],
)
def test_topics_that_were_grown_by_other_means_are_followed_or_refused(
    found: int, count: int, reason: str | None
) -> None:
    counts = {"x": found, "y": 6}
    if reason is None:
        check_counts(counts, Growths(), count)
        return
    with pytest.raises(GrowthRefused, match=reason):
        check_counts(counts, Growths(), count)


def test_a_topic_made_anew_after_a_growth_gets_its_partitions_again() -> None:
    check_counts({"x": 6, "y": 12}, DONE, 12)


class Admin:
    """A group whose members leave after some questions."""

    def __init__(self, questions: int) -> None:
        self.questions = questions

    def members_of(self, group: str) -> Sequence[str]:
        assert group == "x.tapewire"
        self.questions -= 1
        return ["worker-1"] if self.questions >= 0 else []


def growing(questions: int = 0) -> Any:
    made = grow._Growing(ProcessorSettings(topic_prefix="x."), 12, 1.0, lambda _: None)
    made._admin = cast("Any", Admin(questions))
    return made


def test_each_new_partition_gets_a_copy_of_each_scenario_once() -> None:
    logs = {topic.name: LogState("aa", 7, 0, 9) for topic in GROWING}
    committed = {topic.name: 8 for topic in GROWING}
    found = Recovered({RISK_STATE.name: {SCENARIO_KEY: SCENARIO}}, None, committed, logs)
    copies = [
        record.partition
        for number in range(6)
        for record in growing()._records(WHOLE, number, found, {})
        if record.key == SCENARIO_KEY and record.value == encode(SCENARIO)
    ]
    assert copies == [6, 7, 8, 9, 10, 11]


async def test_no_growth_begins_while_any_state_has_a_key_of_an_earlier_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = JobState(
        job_id="j", status="completed", progress=100.0, message="", symbol="", strategy="",
        created_us=0, updated_us=0, partition=0, first_offset=0, last_offset=0, tenant="acme",
    )  # fmt: skip
    jobs, read = {encode_key("j", "acme"): job}, []

    async def read_states(
        topics: Mapping[str, Topic], number: int, _: object
    ) -> dict[str, dict[bytes, JobState]]:
        read.append((number, len(topics)))
        return {name: jobs if (name, number) == ("x.backtest.jobs", 5) else {} for name in topics}

    monkeypatch.setattr(grow, "read_rows", read_states)
    await growing()._check_states(replace(WHOLE, old_count=12, new_count=24))
    states = {topic for each in processors_of(ProcessorSettings()) for topic in each.states}
    assert read == [(number, len(states) if number < 6 else 1) for number in range(12)]
    jobs[b"j"] = job
    with pytest.raises(
        TopicUnfit, match=r"x\.backtest\.jobs has states .* `tapewire topics rekey`"
    ):
        await growing()._check_states(WHOLE)


@pytest.mark.virtual_time
async def test_processors_that_have_just_stopped_are_waited_for_and_running_ones_refused() -> None:
    began_s = asyncio.get_running_loop().time()
    await growing(10)._check_that_processors_are_stopped()
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(5, abs=0.1)
    with pytest.raises(GrowthRefused, match="processors are running: worker-1; stop all of them"):
        await growing(1_000)._check_that_processors_are_stopped()


def test_a_move_is_the_rows_in_their_new_partitions_and_where_the_new_count_holds() -> None:
    rows = {
        name.encode(): PortfolioState(portfolio_id=name, offset=4, index=0, tenant=tenant)
        for name, tenant in (("q6", "a"), ("q10", "b"), ("q4", "b"))
    }
    moves = moves_of(rows, 3, WHOLE)
    assert list(moves) == [b"q6", b"q10"]
    logs = {topic.name: LogState("aa", 7, 0, 9) for topic in GROWING}
    committed = {topic.name: 8 for topic in GROWING}
    found = Recovered({RISK_STATE.name: rows}, None, committed, logs)
    records: Sequence[OutgoingRecord] = growing()._records(WHOLE, 3, found, moves)
    growth, *others = (decode(record.value) for record in records if record.value is not None)
    assert isinstance(growth, TopicGrowth)
    assert (growth.growth_id, growth.partition, growth.is_done) == ("12/3", 3, False)
    [position] = [at for at in growth.positions if at.topic == PORTFOLIO_RETURNS.name]
    assert position == TopicPosition(PORTFOLIO_RETURNS.name, "aa", 7, 8)
    states = [record for record in records if record.topic == "x.risk.state"]
    assert [(record.key, record.partition) for record in states] == [
        *((key, 9) for key in moves),
        *((key, 3) for key in moves),
    ]
    assert moves_of({SCENARIO_KEY: SCENARIO}, 0, WHOLE) == {}
    tallies = [other for other in others if isinstance(other, WindowTally)]
    assert [(tally.tenant, tally.gauges["portfolios"]) for tally in tallies] == [("a", 0)]
