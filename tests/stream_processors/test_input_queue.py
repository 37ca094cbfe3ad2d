"""The order in which messages of one partition number are taken, however they arrive."""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, strategies as st

from kafka_io.dead_letters import Message
from schemas.topics import TopicPartition
from stream_processors.input_queue import InputQueue
from tests.support.messages import FakeMessage

LIMITS, ACKS, RETURNS = (TopicPartition(name, 3) for name in ("limits", "acks", "returns"))
MERGED = (LIMITS, ACKS, RETURNS)
TRADES = TopicPartition("trades", 3)


def at(where: TopicPartition, offset: int, time_s: float) -> FakeMessage:
    return FakeMessage(*where, offset, b"p", b"value", timestamp=time_s)


def taken(queue: InputQueue) -> Iterator[Message]:
    while queue:
        head = queue.head
        assert queue.pop() is head
        assert head is not None
        yield head


def taken_in_runs(queue: InputQueue, messages_max: int, bytes_max: int) -> Iterator[Message]:
    while queue:
        run = queue.pop_run(messages_max, bytes_max)
        assert 0 < len(run) <= messages_max
        assert sum(len(message.value or b"") for message in run[:-1]) < bytes_max
        assert len({message.topic for message in run}) == 1
        yield from run


def names(queue: InputQueue) -> list[str]:
    return [f"{message.topic}/{message.offset}" for message in taken(queue)]


def test_other_messages_are_taken_as_they_arrive() -> None:
    queue = InputQueue(MERGED)
    queue.add(TRADES, [at(TRADES, 0, 9.0), at(TRADES, 1, 1.0)], 2)
    assert names(queue) == ["trades/0", "trades/1"]
    assert queue.is_empty
    assert queue.size == 0


def test_a_return_waits_until_no_earlier_limit_can_arrive() -> None:
    queue = InputQueue(MERGED)
    queue.add(RETURNS, [at(RETURNS, 0, 5.0)], 1)
    assert not queue
    assert not queue.is_empty
    assert queue.unknown() == [LIMITS, ACKS]
    queue.learn({LIMITS: 1, ACKS: 0}, queue.arrivals)
    assert not queue  # one limit is in Kafka, and not here
    assert queue.unknown() == []
    queue.add(LIMITS, [at(LIMITS, 0, 5.0)], 1)
    assert queue.unknown() == [ACKS]  # one may have come with the limit
    queue.learn({ACKS: 0}, queue.arrivals)
    assert names(queue) == ["limits/0", "returns/0"]  # of equal times, limits are first


BOOKS, SERIES = (TopicPartition(name, 3) for name in ("books", "series"))
OF_BOOKS = (LIMITS, ACKS, BOOKS, SERIES)


def test_messages_wait_for_those_of_their_own_groups_only() -> None:
    queue = InputQueue(MERGED, OF_BOOKS)
    queue.add(SERIES, [at(SERIES, 0, 2.0)], 1)
    queue.add(RETURNS, [at(RETURNS, 0, 5.0)], 1)
    assert set(queue.unknown()) == {LIMITS, ACKS, BOOKS}
    queue.learn({LIMITS: 0, ACKS: 0}, queue.arrivals)
    assert names(queue) == ["returns/0"]  # a book may still come before the other
    queue.learn({BOOKS: 0}, queue.arrivals)
    assert names(queue) == ["series/0"]


def test_a_message_of_two_groups_is_in_the_order_of_both() -> None:
    queue = InputQueue(MERGED, OF_BOOKS)
    queue.add(LIMITS, [at(LIMITS, 0, 4.0)], 1)
    queue.add(RETURNS, [at(RETURNS, 0, 5.0)], 1)
    queue.add(SERIES, [at(SERIES, 0, 3.0), at(SERIES, 1, 4.0)], 2)
    queue.learn(dict.fromkeys([LIMITS, ACKS, RETURNS, BOOKS], 0), queue.arrivals)
    assert names(queue) == ["series/0", "limits/0", "returns/0", "series/1"]


def test_what_is_known_of_ends_holds_for_the_messages_before_the_question_only() -> None:
    queue = InputQueue(MERGED)
    queue.restart({LIMITS: 7, ACKS: 0, RETURNS: 0})
    queue.add(RETURNS, [at(RETURNS, 0, 5.0)], 1)
    arrivals = queue.arrivals
    queue.add(RETURNS, [at(RETURNS, 1, 6.0)], 2)
    queue.learn({LIMITS: 7, ACKS: 0}, arrivals)
    assert names(queue) == ["returns/0"]
    assert queue.unknown() == [LIMITS, ACKS]


def test_an_end_behind_markers_of_transactions_is_reached_without_a_message() -> None:
    queue = InputQueue(MERGED)
    queue.add(RETURNS, [at(RETURNS, 0, 5.0)], 1)
    queue.learn({LIMITS: 2, ACKS: 0}, queue.arrivals)
    assert not queue
    queue.add(LIMITS, [], 2)
    assert names(queue) == ["returns/0"]


def test_ends_are_reached_when_all_before_them_was_taken() -> None:
    queue = InputQueue(MERGED)
    assert queue.merged == MERGED
    assert queue.has_reached({LIMITS: 0, RETURNS: 0})
    assert not queue.has_reached({LIMITS: 0, RETURNS: 1})
    queue.add(RETURNS, [at(RETURNS, 0, 5.0)], 1)
    queue.learn({LIMITS: 0, ACKS: 0}, queue.arrivals)
    assert not queue.has_reached({LIMITS: 0, RETURNS: 1})
    queue.pop()
    assert queue.has_reached({LIMITS: 0, RETURNS: 1})


def test_a_restart_forgets_everything() -> None:
    queue = InputQueue(MERGED)
    queue.add(RETURNS, [at(RETURNS, 0, 5.0)], 1)
    queue.learn({LIMITS: 0, ACKS: 0}, queue.arrivals)
    queue.restart({})
    assert queue.is_empty
    queue.add(RETURNS, [at(RETURNS, 0, 5.0)], 1)
    assert queue.unknown() == [LIMITS, ACKS]


@pytest.mark.parametrize("merged", [MERGED, (RETURNS, LIMITS, ACKS)])
@given(seed=st.integers(0, 2**32))
def test_the_order_is_that_of_the_log_whatever_arrives_first(
    merged: tuple[TopicPartition, ...], seed: int
) -> None:
    dice = Random(seed)
    logs: dict[TopicPartition, list[FakeMessage]] = {where: [] for where in merged}
    fetched = dict.fromkeys(merged, 0)
    queue = InputQueue(merged)
    found: list[Message] = []
    asked: tuple[int, dict[TopicPartition, int]] | None = None
    time_ms = 0
    for step in range(150):
        where = dice.choice(merged)
        action = dice.choice(("append", "fetch", "ask", "learn", "take"))
        if action == "append" and step < 100:
            logs[where].append(at(where, len(logs[where]), time_ms / 1000))
            time_ms += dice.choice((0, 0, 1))
        elif action == "fetch" and fetched[where] < len(logs[where]):
            end = dice.randint(fetched[where] + 1, len(logs[where]))
            queue.add(where, logs[where][fetched[where] : end], end)
            fetched[where] = end
        elif action == "ask" and asked is None and queue.unknown():
            time_ms += 1  # as a task waits for longer than the unit of times
            asked = queue.arrivals, {of: len(logs[of]) for of in queue.unknown()}
        elif action == "learn" and asked is not None:
            queue.learn(asked[1], asked[0])
            asked = None
        elif action == "take" and queue:
            found.append(queue.pop())
    for of, log in logs.items():
        queue.add(of, log[fetched[of] :], len(log))
    while not queue.is_empty:
        queue.learn({of: len(logs[of]) for of in queue.unknown()}, queue.arrivals)
        found += taken(queue)
    ranks = {of.topic: rank for rank, of in enumerate(merged)}
    everything = [message for log in logs.values() for message in log]
    assert found == sorted(
        everything, key=lambda message: (message.timestamp, ranks[message.topic], message.offset)
    )


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 30))
def test_a_run_has_what_would_be_taken_one_by_one(
    seed: int, messages_max: int, bytes_max: int
) -> None:
    orders = []
    for runs in (False, True):
        dice = Random(seed)
        queue, order, offsets = InputQueue(MERGED), [], dict.fromkeys((*MERGED, TRADES), 0)
        for time_s in range(12):
            where = dice.choice((RETURNS, RETURNS, RETURNS, LIMITS, TRADES))
            first, count = offsets[where], dice.randrange(6)
            batch = [at(where, first + index, float(time_s)) for index in range(count)]
            offsets[where] += count
            queue.add(where, batch, offsets[where])
            if dice.random() < 0.5:
                queue.learn({peer: offsets[peer] for peer in MERGED}, queue.arrivals)
            found = taken_in_runs(queue, messages_max, bytes_max) if runs else taken(queue)
            order += [(message.topic, message.offset) for message in found]
            order.append(("size", queue.size))
        orders.append(order)
    assert orders[0] == orders[1]
