from dataclasses import replace
from itertools import pairwise

from hypothesis import given, strategies as st

from sse_edge.cache.topic_tail import TopicTail
from sse_edge.cache.window import Window
from sse_edge.cursor import CursorCodec
from sse_edge.delivery.feed import Feed
from sse_edge.delivery.history import Position
from sse_edge.log.record import Batch, Partition, Record, TopicInfo
from sse_edge.streams.render import render
from sse_edge.streams.requests import one_channel
from sse_edge.streams.stream import Stream
from tests.support.edge import ALERTS, alert
from tests.support.sse import Block, Reader

PARTITIONS = 3
STREAM = one_channel("alerts", {})
steps = st.lists(
    st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, 3), st.booleans()), max_size=40
)
"""The partition of a record, its time after the record before, and whether the feed advances."""


class Log:
    """Windows that records are appended to, and a feed over them."""

    def __init__(
        self, *, history_bytes_max: int, window_bytes_max: int = 1 << 20, stream: Stream = STREAM
    ) -> None:
        partitions = [Partition(ALERTS, number) for number in range(PARTITIONS)]
        windows = {partition: Window(0, window_bytes_max) for partition in partitions}
        self.windows = [windows[partition] for partition in partitions]
        info = TopicInfo(ALERTS, bytes(16), PARTITIONS)
        self.feed = Feed(
            stream,
            [TopicTail(info, windows)],
            [partitions],
            CursorCodec(stream.identity, 1, b"", ""),
            render,
            write_bytes_max=1_000,
            history_bytes_max=history_bytes_max,
        )
        self.start = self.feed.horizon
        self._time_ms = 0
        self._count = 0

    def append(self, number: int, later_ms: int = 1, tenant: bytes = b"") -> None:
        self._time_ms += later_ms
        window = self.windows[number]
        offset, value = window.next_offset, alert(f"p{number}", self._count)
        record = Record(Partition(ALERTS, number), offset, self._time_ms, b"k", value, None, tenant)
        window.append(Batch((record,), offset + 1))
        self._count += 1

    def advanced(self) -> bytes:
        """Move the horizon to the ends; return what the caught-up clients get."""
        data = b""
        while (delivery := self.feed.advance()).moved:
            data += delivery.data
        return data

    def taken(self, position: Position) -> bytes:
        """Return what a client at a position gets until it is at the horizon."""
        data = b""
        while (delivery := self.feed.take(position)).moved:
            data += delivery.data
            position = delivery.position
        assert position == self.feed.horizon
        return data


def run(log: Log, chain: list[tuple[int, int, bool]]) -> bytes:
    live = b""
    for number, later_ms, advances in chain:
        log.append(number, later_ms)
        if advances:
            live += log.advanced()
    return live + log.advanced()


def by_partition(data: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for block in Reader().feed(data):
        found.setdefault(block.inner["entity_id"], []).append(block.inner["message"])
    return found


def positions_of(blocks: list[Block]) -> list[Position]:
    codec = CursorCodec(STREAM.identity, 1, b"", "")
    cursors = [codec.decode(block.id or "") for block in blocks]
    return [tuple(offset for _, offset in cursor.topics[0].offsets) for cursor in cursors]


@given(steps)
def test_a_client_behind_the_horizon_gets_the_bytes_that_live_clients_got(
    chain: list[tuple[int, int, bool]],
) -> None:
    log = Log(history_bytes_max=1 << 20)
    live = run(log, chain)
    assert log.taken(log.start) == live
    blocks = Reader().feed(live)
    for number, position in enumerate(positions_of(blocks)):
        rest = b"".join(block.raw + b"\n\n" for block in blocks[number + 1 :])
        assert log.taken(position) == rest


def test_clients_that_return_to_one_position_share_their_bytes() -> None:
    log = Log(history_bytes_max=1 << 20)
    log.append(0)
    log.advanced()
    first, second = log.feed.take(log.start), log.feed.take(log.start)
    assert first.events == 1
    assert second.chunk is first.chunk


@given(steps)
def test_without_a_history_a_client_gets_the_same_events_of_each_partition(
    chain: list[tuple[int, int, bool]],
) -> None:
    log = Log(history_bytes_max=0)
    live = run(log, chain)
    assert by_partition(log.taken(log.start)) == by_partition(live)


@given(steps)
def test_ids_never_go_back_in_any_partition(chain: list[tuple[int, int, bool]]) -> None:
    log = Log(history_bytes_max=0)
    positions = positions_of(Reader().feed(run(log, chain)))
    for before, after in pairwise(positions):
        assert sum(after) == sum(before) + 1
        assert all(a >= b for a, b in zip(after, before, strict=True))


class NarrowFeeds:
    """A window, and two feeds of one key in it, whose bytes are kept."""

    def __init__(self, window_bytes_max: int = 1 << 20) -> None:
        self.partition = Partition(ALERTS, 0)
        self.window = Window(0, window_bytes_max)
        tail = TopicTail(TopicInfo(ALERTS, bytes(16), 1), {self.partition: self.window})
        stream = one_channel("alerts", {"entity_id": "e1"})
        self.short, self.general = (
            Feed(
                stream,
                [tail],
                [[self.partition]],
                CursorCodec(stream.identity, 1, b"", ""),
                render,
                write_bytes_max=1_000,
                history_bytes_max=0,
            )
            for _ in range(2)
        )
        self.data = [b"", b""]
        self.short_steps = 0

    def append(self, entity: str, event_id: bytes, traceparent: bytes = b"") -> None:
        offset = self.window.next_offset
        value = alert(entity, offset)
        record = Record(
            self.partition, offset, 1, entity.encode(), value, event_id, b"", b"", traceparent
        )
        self.window.append(Batch((record,), offset + 1))

    def advance(self) -> None:
        """Advance both, the short one by `advance_by_one` where it can."""
        step = self.short.advance_by_one()
        if step is None:
            self.data[0] += _advanced(self.short)
        else:
            self.short_steps += 1
            self.data[0] += step[0]
        self.data[1] += _advanced(self.general)


def _advanced(feed: Feed) -> bytes:
    data = b""
    while (delivery := feed.advance()).moved:
        data += delivery.data
    return data


@given(st.lists(st.tuples(st.sampled_from(["e1", "e2"]), st.booleans(), st.booleans())))
def test_one_event_at_a_time_is_what_the_general_way_delivers(
    chain: list[tuple[str, bool, bool]],
) -> None:
    feeds = NarrowFeeds()
    for number, (entity, is_repeat, advances) in enumerate(chain):
        feeds.append(entity, b"same" if is_repeat else b"%d" % number)
        if advances:
            feeds.advance()
            assert feeds.short.horizon == feeds.general.horizon
    feeds.advance()
    assert feeds.data[0] == feeds.data[1]


def test_one_plain_event_goes_the_short_way_and_others_the_general_one() -> None:
    feeds = NarrowFeeds()
    feeds.append("e2", b"1")
    feeds.advance()
    feeds.append("e1", b"2")
    feeds.append("e2", b"3")
    feeds.advance()
    assert feeds.short_steps == 2
    for entity, event_ids, traceparent in (
        ("e1", (b"4", b"5"), b""),  # two events, of which the second would be the only one sent
        ("e1", (b"5",), b""),  # a repeat
        ("e1", (b"6",), b"00-1"),  # its trace is kept beside its lag
    ):
        for event_id in event_ids:
            feeds.append(entity, event_id, traceparent)
        feeds.advance()
        assert feeds.short_steps == 2
    assert feeds.data[0] == feeds.data[1]
    assert len(Reader().feed(feeds.data[0])) == 4


def test_one_event_that_the_window_has_evicted_does_not_go_the_short_way() -> None:
    feeds = NarrowFeeds(window_bytes_max=2_500)
    for number in range(10):
        feeds.append("e1" if number == 0 else "e2", b"%d" % number)
    assert feeds.short.advance_by_one() is None
    assert feeds.short.advance().behind == (0,)


def test_a_feed_whose_window_has_evicted_the_next_record_names_the_partition() -> None:
    log = Log(history_bytes_max=0, window_bytes_max=3_000)
    for _ in range(10):
        log.append(1)
    delivery = log.feed.advance()
    assert delivery.behind == (1,)
    assert not delivery.events
    assert delivery.position == log.start
    assert log.feed.horizon == log.feed.ends == (0, 10, 0)


def test_of_several_events_of_a_key_the_newest_is_taken_and_the_others_are_counted() -> None:
    log = Log(history_bytes_max=0)
    for _ in range(4):
        log.append(0)
    log.append(1)
    log.advanced()
    delivery = log.feed.take_newest(log.start)
    assert (delivery.events, delivery.merged, delivery.position) == (2, 3, log.feed.horizon)


@given(st.lists(st.sampled_from([b"acme", b"other"]), max_size=12))
def test_only_events_that_the_caller_may_see_are_merged_and_counted(tenants: list[bytes]) -> None:
    log = Log(history_bytes_max=0, stream=replace(STREAM, tenant="acme"))
    for tenant in tenants:
        log.append(0, tenant=tenant)
    log.advanced()
    delivery = log.feed.take_newest(log.start)
    own = tenants.count(b"acme")
    assert delivery.events == min(own, 1)
    assert delivery.merged == max(own - 1, 0)
    assert delivery.position == log.feed.horizon
