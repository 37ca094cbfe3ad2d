"""Messages that end whole processes: how they are found, and that no other one is blamed."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from schemas.codec import decode
from schemas.events import DeadLetter, DeathZone, ProcessorPositions
from schemas.topics import PROCESSOR_POSITIONS, TopicPartition
from stream_processors.deaths import DEATHS_MAX, Deaths, Note, Place
from stream_processors.messages import Admitted
from stream_processors.processor import Round
from tests.support.fake_group import (
    INPUT,
    NUMBERS,
    FakeCluster,
    FakeMember,
    RunningTotals,
    straight,
    written,
)

Deadly = Counter[tuple[int, int]]
"""How often each message has ended a process, by partition number and offset."""

LETHAL = 7
"""A process that handles this number dies."""


def taken_over(note: Note, offset: int, end: int = 1_000, worker: str = "b") -> Deaths:
    deaths = Deaths(worker, 50)
    deaths.recover(note, {"t": offset}, {"t": end})
    return deaths


def test_each_death_at_a_place_makes_the_next_process_more_careful() -> None:
    note, offsets = Note(), {"t": 10}
    alone = []
    for number in range(DEATHS_MAX + 1):
        deaths = taken_over(note, 10, worker=f"process {number}")
        alone.append(deaths.is_suspect(Place("t", 10)))
        note = deaths.note(offsets, Place("t", 11) if alone[-1] else None)
        deaths.wrote(note, offsets)
        assert deaths.lethal == (Place("t", 11) if number == DEATHS_MAX else None)
    assert alone == [False, False, True, True, True]


def test_an_end_in_order_is_no_death() -> None:
    note = Note()
    for number in range(10):
        deaths = taken_over(note, 10, worker=f"process {number}")
        assert not deaths.is_suspect(Place("t", 10))
        deaths.wrote(deaths.note({"t": 10}), {"t": 10})
        last = deaths.last_note()
        assert last is not None
        note = last
    assert note == Note()


def test_a_process_that_starts_again_has_not_died() -> None:
    note = Note("b", (DeathZone("t", 2, 50),), Place("t", 10))
    for _ in range(5):
        deaths = taken_over(note, 10)
        assert deaths.lethal is None
        assert deaths.is_suspect(Place("t", 10))
        note = deaths.note({"t": 10}, Place("t", 10))


def test_a_place_without_unread_messages_has_no_deaths() -> None:
    note = Note("a", (DeathZone("t", 2, 50),), Place("t", 49))
    deaths = taken_over(note, 50, end=50)
    assert deaths.lethal is None
    assert deaths.note({"t": 50}) == Note("b")


def test_deaths_are_forgotten_when_all_is_read_that_a_dead_process_can_have_read() -> None:
    deaths = taken_over(Note("a"), 10)
    assert deaths.messages_max({"t": 10}) == 50
    assert deaths.note({"t": 109}).zones == (DeathZone("t", 1, 110),)
    assert deaths.note({"t": 110}).zones == ()
    many = Deaths("b", 1_500)
    many.recover(Note("a"), {"t": 10}, {"t": 10_000})
    assert many.messages_max({"t": 10}) == 100
    assert many.messages_max({"t": 3_010}) == 1_500


def test_the_death_of_a_process_that_handled_a_message_alone_is_of_its_topic_only() -> None:
    deaths = Deaths("b", 50)
    zones = (DeathZone("t", 3, 50), DeathZone("u", 2, 50))
    deaths.recover(Note("a", zones, Place("t", 10)), {"t": 10, "u": 10}, {"t": 90, "u": 90})
    assert deaths.lethal == Place("t", 10)
    assert [zone.deaths for zone in deaths.note({"t": 10, "u": 10}).zones] == [4, 2]
    after = deaths.note({"t": 11, "u": 10})
    assert [zone.deaths for zone in after.zones] == [0, 2]
    deaths.wrote(after, {"t": 11, "u": 10})
    assert deaths.lethal is None


def test_an_end_in_order_keeps_the_message_that_is_set_aside() -> None:
    deaths = taken_over(Note("a", (DeathZone("t", 3, 50),), Place("t", 10)), 10)
    deaths.wrote(deaths.note({"t": 10}, Place("t", 10)), {"t": 10})
    last = deaths.last_note()
    assert last is not None
    assert taken_over(last, 10, worker="c").lethal == Place("t", 10)


def test_a_message_is_accused_by_two_processes_that_died_while_they_handled_it_alone() -> None:
    zone = DeathZone("t", 2, 50)
    once = taken_over(Note("a", (zone,), Place("t", 10)), 10)
    assert once.lethal is None
    note = once.note({"t": 10}, Place("t", 10))
    assert taken_over(note, 10, worker="c").lethal == Place("t", 10)
    # The second process has handled it, and was killed at the next one.
    after = once.note({"t": 11}, Place("t", 11))
    assert [found.deaths for found in after.zones] == [2]
    assert taken_over(after, 11, worker="c").lethal is None
    # A process that dies before it names a message accuses none.
    unnamed = Note("a", (zone,))
    for name in "bcde":
        deaths = taken_over(unnamed, 10, worker=name)
        assert deaths.lethal is None
        unnamed = deaths.note({"t": 10})
    assert [found.deaths for found in unnamed.zones] == [2]


OFFSETS = st.integers(-1, 1 << 63 - 1)
ZONES = st.lists(
    st.builds(DeathZone, st.sampled_from("tu"), st.integers(0, (1 << 31) - 1), OFFSETS), max_size=3
)


@given(
    st.builds(
        Note,
        st.sampled_from(["", "a", "b"]),
        ZONES.map(tuple),
        st.none() | st.builds(Place, st.sampled_from("tu"), OFFSETS),
    ),
    st.integers(0, 100),
    st.integers(0, 100),
)
def test_a_row_that_a_stranger_has_written_breaks_nothing(
    note: Note, offset: int, length: int
) -> None:
    deaths = taken_over(note, offset, offset + length)
    if deaths.lethal is not None:
        assert offset <= deaths.lethal.offset < offset + length
    for zone in deaths.note({"t": offset}).zones:
        assert zone.deaths <= DEATHS_MAX
        assert offset < zone.until <= offset + length
    assert not deaths.is_suspect(Place("t", offset + length))


class LethalTotals(RunningTotals):
    """Ends its process at some numbers, in the midst of a round."""

    def __init__(self, died: asyncio.Event, deaths: Deadly) -> None:
        super().__init__(linger_s=0.3)
        self._died, self._deaths = died, deaths

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        for message in messages:
            if message.value == str(LETHAL).encode():
                self._deaths[this_round.number, message.offset] += 1
                self._died.set()
                await asyncio.Event().wait()
            await super().process([message], this_round)


async def live(cluster: FakeCluster, deaths: Deadly, until: asyncio.Event) -> FakeMember:
    """Run a process until it dies, or until it should end; then end it in order."""
    died = asyncio.Event()
    member = FakeMember(cluster, LethalTotals(died, deaths))
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(member.worker.run())
        await member.joined.wait()
        await member.listener.assigned({TopicPartition(INPUT.name, n) for n in range(NUMBERS)})
        ends = [tasks.create_task(event.wait()) for event in (died, until)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not died.is_set():
            await member.worker.stop()
        for task in (working, *ends):
            task.cancel()
    return member


async def write(cluster: FakeCluster, numbers: Sequence[int], done: asyncio.Event) -> None:
    for index, number in enumerate(numbers):
        cluster.append(index % NUMBERS, "ab"[index % 2], number)
        await asyncio.sleep(cluster.dice.choice((0, 0, 0, 0.5)))
    await cluster.done()
    done.set()


def letters_of(cluster: FakeCluster) -> list[DeadLetter]:
    found = [decode(record.value) for _, record in cluster.outputs]
    return [letter for letter in found if isinstance(letter, DeadLetter)]


LETHAL_AT = ((31,), (0,), (89,), (31, 34), (30, 31, 32), (5, 35, 65, 88))
SEEDS_OFTEN = {(31,): 2, (30, 31, 32): 2, (89,): 1}
"""Each run takes ten seconds and more, so most of them are made by `make long` only."""


@pytest.mark.parametrize(
    ("lethal", "seed"),
    [
        pytest.param(
            lethal,
            seed,
            marks=[pytest.mark.long] if seed >= SEEDS_OFTEN.get(lethal, 0) else [],
        )
        for lethal in LETHAL_AT
        for seed in range(5)
    ],
)
async def test_a_message_that_ends_its_process_does_so_four_times_and_no_other_is_lost(
    seed: int, lethal: Sequence[int]
) -> None:
    cluster, done = FakeCluster(seed), asyncio.Event()
    numbers = [LETHAL if index in lethal else 1 for index in range(90)]
    bad = {(index % NUMBERS, index // NUMBERS) for index in lethal}
    deaths = Deadly()
    async with asyncio.timeout(3_000), asyncio.TaskGroup() as tasks:
        tasks.create_task(write(cluster, numbers, done))
        while not done.is_set():
            if seed and cluster.dice.random() < 0.3:  # it is asked to stop, or its commit fails
                cluster.failures += 1
                soon = asyncio.Event()
                asyncio.get_running_loop().call_later(cluster.dice.uniform(0, 3), soon.set)
                await live(cluster, deaths, soon)
            else:
                await live(cluster, deaths, done)
    assert written(cluster) == straight(cluster, without=bad)
    letters = letters_of(cluster)
    assert sorted((letter.partition, letter.offset) for letter in letters) == sorted(bad)
    assert {letter.reason for letter in letters} == {"failed"}
    assert "4 processes in a row have died here" in letters[0].error
    assert max(deaths.values()) <= DEATHS_MAX
    if len(bad) == 1 and not seed:  # else a process may end in disorder for another reason
        assert set(deaths.values()) == {DEATHS_MAX}


async def test_a_process_that_handles_no_bad_message_writes_one_row_more_when_it_starts() -> None:
    cluster, done, deaths = FakeCluster(), asyncio.Event(), Deadly()
    cluster.hiccups_s = (0,)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write(cluster, [1] * 60, done))
        member = await live(cluster, deaths, done)
    rows = sum(len(rows) for rows in cluster.rows.values())
    assert rows
    saved = cluster.rows[PROCESSOR_POSITIONS.name, 0][b"0"]
    assert isinstance(saved, ProcessorPositions)
    assert (saved.worker, saved.zones, saved.handled_offset) == ("", [], -1)
    assert saved.positions[0].next_offset == 20
    assert cluster.writes == member.metrics.transactions + 2 * NUMBERS


async def test_processes_that_are_killed_again_and_again_lose_and_blame_no_message() -> None:
    cluster, done = FakeCluster(3), asyncio.Event()
    async with asyncio.timeout(3_000), asyncio.TaskGroup() as tasks:
        tasks.create_task(write(cluster, [1] * 300, done))
        while not done.is_set():
            member = FakeMember(cluster)
            working = tasks.create_task(member.worker.run())
            await member.joined.wait()
            where = {TopicPartition(INPUT.name, number) for number in range(NUMBERS)}
            await member.listener.assigned(where)
            await asyncio.sleep(cluster.dice.uniform(0.5, 6))
            working.cancel()
            await asyncio.wait([working])
    assert written(cluster) == straight(cluster)
    assert letters_of(cluster) == []
