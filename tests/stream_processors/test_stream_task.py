"""What a task reads on from, and its rounds, on a fake cluster in virtual time."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from kafka_io.counts import COUNTS
from kafka_io.stage_times import Stage
from schemas.codec import decode
from schemas.events import CandleState, DeadLetter, ProcessorPositions, TopicPosition, UserUpdate
from schemas.topics import PROCESSOR_POSITIONS, TopicPartition
from stream_processors.errors import TopicsCopied
from stream_processors.messages import Admitted
from stream_processors.processor import Round, Rows
from stream_processors.stream_task import LogState, Recovered, resolve_start
from tests.support.fake_group import (
    INPUT,
    STATES,
    FakeCluster,
    FakeMember,
    RunningTotals,
    straight,
    total_row,
    written,
)

pytestmark = pytest.mark.virtual_time

WHERE = TopicPartition(INPUT.name, 0)


def found(
    committed: int | None,
    saved: int | None,
    *,
    begin: int = 0,
    end: int = 100,
    topic_id: str = "aa",
    saved_id: str = "aa",
    reused: int | None = None,
    row_limit: int = 0,
) -> Recovered:
    positions = None
    if saved is not None:
        at = TopicPosition("t", saved_id, 0, saved, row_limit)
        positions = ProcessorPositions(partition=3, epoch=1, positions=[at], event_time_us=0)
    log = LogState(topic_id, 0, begin, end, reused)
    return Recovered({}, positions, {"t": committed}, {"t": log})


@pytest.mark.parametrize(
    ("recovered", "offset", "fault"),
    [
        (found(None, None), 0, None),
        (found(None, None, begin=7), 7, None),
        (found(40, 40), 40, None),
        (found(40, None), 40, None),
        (found(None, 40), 40, None),
        (found(60, 40), 40, "t/3 has the offsets [40, 60]; the lower one holds"),
        (found(40, 40, end=30), 30, "t/3 has lost its records from 30 to 40"),
        (found(40, 40, begin=50), 50, "t/3 has deleted its records from 40 to 50 unread"),
        (
            found(40, 40, saved_id="bb"),
            0,
            "t/3 was made anew, so it is read from its beginning",
        ),
        (found(40, 40, saved_id=""), 40, None),
        (
            found(40, 40, reused=25),
            25,
            (
                "t/3 has lost its records from 25 to 40, and has given their offsets to others, "
                "which are read now"
            ),
        ),
    ],
)
def test_where_a_task_reads_on(recovered: Recovered, offset: int, fault: str | None) -> None:
    start = resolve_start(3, recovered, 0)
    assert start.offsets == {"t": offset}
    assert list(start.faults) == ([] if fault is None else [fault])


def test_states_of_another_cluster_are_refused_with_the_command_to_take() -> None:
    one = found(40, 40, saved_id="bb")
    assert one.saved is not None
    positions = [*one.saved.positions, TopicPosition("u", "cc", 0, 7)]
    logs = {**one.logs, "u": LogState("dd", 0, 0, 9)}
    copied = one._replace(saved=replace(one.saved, positions=positions), logs=logs)
    with pytest.raises(TopicsCopied, match=r"number 3 has the id .*run `tapewire rebuild NAME`"):
        resolve_start(3, copied, 0)
    made_anew = copied._replace(logs={**logs, "u": LogState("cc", 0, 0, 9)})
    assert resolve_start(3, made_anew, 0).offsets == {"t": 0, "u": 7}


@pytest.mark.parametrize(
    ("recovered", "gap"),
    [
        (found(40, 40), None),
        (found(60, 40), None),
        (found(40, 40, end=30), ("future", 40, 30)),
        (found(40, 40, reused=25), ("future", 40, 25)),
        (found(40, 40, begin=50), ("expired", 40, 50)),
        (found(None, None, begin=50), None),
        (found(40, 40, saved_id="bb"), ("topic_recreated", 40, 0)),
    ],
)
def test_what_is_missing_is_reported(recovered: Recovered, gap: object) -> None:
    gaps = [(at.reason, at.from_offset, at.to_offset) for at in resolve_start(3, recovered, 7).gaps]
    assert gaps == ([] if gap is None else [gap])


@pytest.mark.parametrize(
    ("recovered", "row_limit"),
    [
        (found(40, 40), 40),
        (found(40, None), 100),
        (found(None, None), 100),
        (found(40, 40, row_limit=60), 60),
        (found(40, 40, row_limit=60, end=50), 50),
        (found(70, 70, row_limit=60), 70),
        (found(40, None, end=30), 30),
        (found(40, 40, row_limit=60, reused=35), 35),
        (found(40, 40, saved_id="bb", row_limit=60, begin=7), 7),
        (found(40, 40, reused=25), 25),
    ],
)
def test_offsets_in_rows_are_below_the_start_unless_the_rows_are_of_the_first_release(
    recovered: Recovered, row_limit: int
) -> None:
    assert resolve_start(3, recovered, 0).row_limits == {"t": row_limit}


@given(
    st.none() | st.integers(0, 200),
    st.none() | st.integers(0, 200),
    st.integers(0, 100),
    st.integers(0, 100),
)
def test_a_task_never_starts_outside_the_log_or_after_either_offset(
    committed: int | None, saved: int | None, begin: int, length: int
) -> None:
    end = begin + length
    offset = resolve_start(3, found(committed, saved, begin=begin, end=end), 0).offsets["t"]
    assert begin <= offset <= end
    for known in (committed, saved):
        assert known is None or offset <= max(known, begin)


@asynccontextmanager
async def running(member: FakeMember) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(member.worker.run())
        await member.joined.wait()
        await member.listener.assigned({TopicPartition(INPUT.name, n) for n in range(3)})
        yield
        await member.worker.stop()
        working.cancel()


async def test_each_message_is_processed_once_and_committed_with_its_offset() -> None:
    cluster = FakeCluster()
    member = FakeMember(cluster)
    async with running(member):
        for number in range(60):
            cluster.append(number % 3, "ab"[number % 2], number)
            await asyncio.sleep(0.01)
        await cluster.done()
    assert written(cluster) == straight(cluster)
    saved = cluster.rows[PROCESSOR_POSITIONS.name, 0][b"0"]
    assert saved.positions[0].next_offset == cluster.committed[WHERE]
    assert (saved.epoch, saved.positions[0].topic_id) == (1, cluster.topic_id)


async def test_a_round_lingers_for_more_messages_and_is_one_transaction() -> None:
    cluster = FakeCluster(slowest_s=0.001)
    cluster.hiccups_s = (0,)
    member = FakeMember(cluster, RunningTotals(linger_s=1.0))
    async with running(member):
        await asyncio.sleep(1)
        before = member.metrics.transactions
        for _ in range(10):
            cluster.append(0, "a", 1)
            await asyncio.sleep(0.02)
        await cluster.done()
        assert member.metrics.transactions == before + 1


class UrgentTotals(RunningTotals):
    """Has clients that wait for what follows from its messages."""

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        await super().process(messages, this_round)
        this_round.must_end = True


def committed_rounds() -> int:
    """Return how many rounds the histogram of this process has."""
    times = dict(COUNTS.stages.times()).get(Stage.PROCESSOR_TO_LOG)
    return sum(times.counts) if times else 0


async def test_a_round_for_which_clients_wait_does_not_linger() -> None:
    cluster = FakeCluster(slowest_s=0.001)
    cluster.hiccups_s = (0,)
    async with running(FakeMember(cluster, UrgentTotals(linger_s=50.0))):
        await asyncio.sleep(1)
        clock = asyncio.get_running_loop().time
        began_s, rounds = clock(), committed_rounds()
        cluster.append(0, "a", 1)
        await cluster.done()
        assert clock() < began_s + 0.5
        assert committed_rounds() == rounds + 1


@pytest.mark.parametrize("seed", range(20))
async def test_commits_whose_outcome_is_unknown_repeat_and_lose_nothing(seed: int) -> None:
    cluster = FakeCluster(seed)
    async with running(FakeMember(cluster)):
        for number in range(90):
            cluster.append(number % 3, "ab"[number % 2], number)
            await asyncio.sleep(cluster.dice.uniform(0, 0.1))
            if number % 10 == 0:
                cluster.failures += 1
        await cluster.done()
    assert written(cluster) == straight(cluster)


class SkippingTotals(RunningTotals):
    """Skips the messages of a key up to the offset in its row."""

    def __init__(self) -> None:
        super().__init__()
        self._offsets: dict[tuple[int, bytes | None], int] = {}

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        super().recover(number, rows, row_limits)
        for key, row in rows[STATES.name].items():
            assert isinstance(row, CandleState)
            self._offsets[number, key] = min(row.watermark_us, row_limits[INPUT.name] - 1)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        number = this_round.number
        for message in messages:
            if message.offset > self._offsets.get((number, message.key), -1):
                self._offsets[number, message.key] = message.offset
                await super().process([message], this_round)


@pytest.mark.parametrize("seed", range(10))
async def test_rows_ahead_of_the_committed_offset_are_not_added_to_again(seed: int) -> None:
    """The first release has written them, and then died before its commit."""
    cluster = FakeCluster(seed)
    for offset in range(30):
        cluster.append(0, "ab"[offset % 2], 1)
    cluster.committed[INPUT.name, 0] = 6
    cluster.rows[STATES.name, 0] |= {
        b"a": total_row("a", 10, 18),
        b"b": total_row("b", 3, 5),
    }
    # A commit that fails makes the task start again, in the midst of what the rows have already.
    cluster.failures = seed % 4
    async with running(FakeMember(cluster, SkippingTotals())):
        await cluster.done()
    ahead = {f"0/{offset}:{offset // 2 + 1}" for offset in range(0, 19, 2)}
    behind = {f"0/{offset}:{offset // 2 + 1}" for offset in range(1, 6, 2)}
    assert written(cluster) == [event for event in straight(cluster) if event not in ahead | behind]
    (position,) = cluster.rows[PROCESSOR_POSITIONS.name, 0][b"0"].positions
    assert position.row_limit == 0


async def test_a_cluster_that_is_away_for_a_while_stops_nothing() -> None:
    cluster = FakeCluster()
    async with running(FakeMember(cluster)):
        for number in range(90):
            cluster.append(number % 3, "a", number)
            await asyncio.sleep(0.1)
            cluster.is_away = 30 <= number < 60
        await cluster.done()
    assert written(cluster) == straight(cluster)


async def test_a_new_writer_takes_over_where_kafka_does_not_answer_and_waits_longer_each_time() -> (
    None
):
    cluster = FakeCluster(slowest_s=0.001)
    cluster.answers_after_s = [1e6, 1e6, 1e6, 39.0, 0.0, 1e6]
    async with running(FakeMember(cluster)):
        began_s = asyncio.get_running_loop().time()
        cluster.append(0, "a", 1)
        await cluster.done()
        assert 109 <= asyncio.get_running_loop().time() - began_s <= 113  # 10 + 20 + 40 + 39
        assert cluster.epochs[0] == 4
        while cluster.answers_after_s:  # the answers of others
            cluster.append(0, "a", 1)
            await asyncio.sleep(0.5)
        began_s = asyncio.get_running_loop().time()
        await cluster.done()
        assert asyncio.get_running_loop().time() - began_s <= 12
    assert written(cluster) == straight(cluster)


@pytest.mark.parametrize("is_watching", [True, False])
@pytest.mark.parametrize("unaware", [-6, -1, 0, 1, 12])
async def test_a_log_that_lost_its_end_and_grew_again_is_read_from_its_first_new_record(
    unaware: int,
    *,
    is_watching: bool,
) -> None:
    cluster, processor = FakeCluster(), RunningTotals()
    async with AsyncExitStack() as stack:
        member = FakeMember(cluster, processor)
        await stack.enter_async_context(running(member))
        for _ in range(20):
            cluster.append(0, "a", 1)
        await cluster.done()
        if not is_watching:
            await stack.aclose()
        # Before anybody looks, the log has fewer records than it had, as many, or more.
        cluster.tear(0, 13)
        for _ in range(7 + unaware):
            cluster.append(0, "b", 1)
        if not is_watching:
            member = FakeMember(cluster, processor)
            await stack.enter_async_context(running(member))
        await asyncio.sleep(30)
    found = {
        int(json.loads(event.data).partition(":")[0])
        for _, record in cluster.outputs
        if isinstance(event := decode(record.value), UserUpdate) and event.user_id == "b"
    }
    assert found == set(range(13, 20 + unaware))
    assert member.metrics.log_faults >= 1
    # The gap is reported again if the task starts again before it has committed a round.
    assert {(gap.reason, gap.to_offset) for gap in processor.gaps} == {("future", 13)}
    assert all(gap.from_offset >= 20 for gap in processor.gaps)


async def test_a_log_that_lost_its_offset_is_not_asked_again_while_a_commit_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = FakeCluster()
    cluster.hiccups_s = (0,)
    member = FakeMember(cluster)
    async with running(member):
        for number in range(20):
            cluster.append(0, "a", number)
        await cluster.done()
        member.began_commit.clear()
        cluster.answers_after_s = [9.0]
        cluster.append(0, "a", 20)
        await member.began_commit.wait()
        cluster.tear(0, 13)
        await asyncio.sleep(8)  # virtual; the commit still waits
        assert [record.message for record in caplog.records].count("lost") == 1


async def test_a_topic_that_was_made_anew_is_read_from_its_first_record() -> None:
    cluster = FakeCluster()
    member = FakeMember(cluster)
    async with running(member):
        for number in range(30):
            cluster.append(number % 3, "a", 1)
        await cluster.done()
        cluster.outputs.clear()
        cluster.recreate()
        for number in range(9):
            cluster.append(number % 3, "b", 1)
        cluster.committed = dict.fromkeys(cluster.committed, 10)
        await asyncio.sleep(30)
    assert written(cluster) == straight(cluster)
    assert member.metrics.log_faults >= 3


class FailingTotals(RunningTotals):
    """Fails at some numbers, in the midst of a round or at its end."""

    def __init__(self, at_once: int, at_the_end: int) -> None:
        super().__init__(linger_s=0.5)
        self._at_once, self._at_the_end = at_once, at_the_end
        self._is_bad: dict[int, bool] = {}

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        super().recover(number, rows, row_limits)
        self._is_bad[number] = False

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        for message in messages:
            await super().process([message], this_round)
            value = int(message.value or b"0")
            if value == self._at_once:
                raise KeyError("of the first kind")
            self._is_bad[this_round.number] |= value == self._at_the_end

    async def finish(self, this_round: Round) -> None:
        if self._is_bad[this_round.number]:
            raise RecursionError("of the second kind")


@pytest.mark.parametrize("seed", range(10))
async def test_a_message_that_makes_a_processor_fail_is_set_aside_and_no_other(seed: int) -> None:
    cluster = FakeCluster(seed)
    member = FakeMember(cluster, FailingTotals(7, 11))
    cluster.failures = seed % 3
    numbers = [cluster.dice.randint(0, 12) for _ in range(60)]
    async with running(member):
        for index, number in enumerate(numbers):
            cluster.append(index % 3, "ab"[index % 2], number)
            await asyncio.sleep(cluster.dice.choice((0, 0, 0.3)))
        await cluster.done()
    letters = [
        letter
        for _, record in cluster.outputs
        if isinstance(letter := decode(record.value), DeadLetter)
    ]
    bad = {
        (index % 3, index // 3): number for index, number in enumerate(numbers) if number in (7, 11)
    }
    assert {(letter.partition, letter.offset): letter.error for letter in letters} == {
        where: "KeyError: 'of the first kind'"
        if number == 7
        else "RecursionError: of the second kind"
        for where, number in bad.items()
    }
    assert len(letters) == len(bad)
    assert {letter.reason for letter in letters} <= {"failed"}
    assert written(cluster) == straight(cluster, without=bad)


class Clockwork(RunningTotals):
    """Asks for the time at each tick."""

    def __init__(self) -> None:
        super().__init__(tick_s=0.25)
        self.merged = (INPUT,)
        self.seen = 0
        self.times: list[tuple[int | None, int]] = []
        """The time of each tick, and the messages that were processed by then."""

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        await super().process(messages, this_round)
        if this_round.number == 0:
            self.seen += len(messages)

    def needs_time(self, number: int, now_us: int) -> bool:
        del now_us
        return number == 0

    async def tick(self, this_round: Round) -> None:
        if this_round.number == 0:
            self.times.append((this_round.read_until_us, self.seen))


class Calm(RunningTotals):
    """Has something to do at a tick of one of two partition numbers only."""

    def __init__(self) -> None:
        super().__init__(tick_s=0.25)
        self.ticked: set[int] = set()

    def needs_tick(self, number: int, now_us: int) -> bool:
        del now_us
        return number == 1

    async def tick(self, this_round: Round) -> None:
        self.ticked.add(this_round.number)


async def test_a_tick_that_has_nothing_to_do_is_left_out() -> None:
    calm = Calm()
    async with running(FakeMember(FakeCluster(0), calm)):
        await asyncio.sleep(5)  # virtual; twenty ticks are due meanwhile
    assert calm.ticked == {1}


@pytest.mark.parametrize("seed", range(4))
async def test_a_tick_knows_a_time_that_no_unread_message_precedes(seed: int) -> None:
    cluster = FakeCluster(seed, slowest_s=0.5)
    clockwork = Clockwork()
    loop = asyncio.get_running_loop()
    member = FakeMember(cluster, clockwork)
    behind_s = 100.0 - 0.9  # the broker's clock is nearly a second behind
    member.process = replace(member.process, now_us=lambda: int((loop.time() + 100.0) * 1e6))
    async with running(member):
        for _ in range(60):
            await asyncio.sleep(cluster.dice.choice((0.01, 0.5, 3.0)))
            cluster.appended_ms = int((loop.time() + behind_s) * 1000) - 1
            cluster.append(0, "k", 1)
        await cluster.done()
        await asyncio.sleep(5)
        quiet_us = member.process.now_us()
        await asyncio.sleep(5)
    times_us = [message.timestamp * 1e6 for message in cluster.inputs[0]]
    known = [(until_us, seen) for until_us, seen in clockwork.times if until_us is not None]
    assert len(known) > 20
    assert known[-1][0] >= quiet_us
    for until_us, seen in known:
        assert all(time_us >= until_us for time_us in times_us[seen:])
