import asyncio
import gzip
import time
from itertools import pairwise

import pytest

from kafka_io.counts import COUNTS
from kafka_io.stage_times import Stage
from sse_edge.cache.topic_tail import TopicTail
from sse_edge.cache.window import Window
from sse_edge.compression import Gzip
from sse_edge.cursor import CursorCodec
from sse_edge.delivery.broadcast import BroadcastGroup, Pacer
from sse_edge.delivery.feed import Feed
from sse_edge.delivery.start import FromEdge
from sse_edge.log.record import Batch, Partition, Record, TopicInfo
from sse_edge.metrics.node_metrics import StreamMetrics
from sse_edge.streams.render import render
from sse_edge.streams.requests import one_channel
from sse_edge.transport import Chunk, Transport
from tests.support.edge import (
    ALERTS,
    Client,
    alert,
    alerts_log,
    numbers,
    running_edge,
    write_alerts,
)

pytestmark = pytest.mark.virtual_time


async def test_caught_up_clients_share_their_bytes() -> None:
    log = alerts_log(partitions=2)
    async with running_edge(log) as edge:
        clients = [edge.connect() for _ in range(20)]
        for client in clients:
            await client.until(2)
        write_alerts(log, *range(10))
        for client in clients:
            await client.until(10, event="risk_alert")
        assert log.reads == 0
        assert len({tuple(block.raw for block in client.blocks[1:]) for client in clients}) == 1


async def test_clients_that_accept_gzip_share_it_and_read_the_same() -> None:
    log = alerts_log()
    async with running_edge(log) as edge:
        early, plain = edge.connect(gzip=True), edge.connect()
        await early.until(2)
        write_alerts(log, *range(20))
        await early.until(20, event="risk_alert")
        late = edge.connect(start=FromEdge.EARLIEST, gzip=True)
        await late.until(20, event="risk_alert")
        write_alerts(log, *range(20, 40))
        for client in (early, late, plain):
            await client.until(2)
        await early.until(2, event="ping")
        write_alerts(log, *range(40, 50))
        await late.until(50, event="risk_alert")
        await early.until(50, event="risk_alert")
        await plain.until(50, event="risk_alert")
        assert numbers(early) == numbers(late) == numbers(plain) == list(range(50))
        edge.node.drain()
        for client in (early, late):
            await edge.ended(client)
            assert client._unzip.eof  # with a CRC that is right


class CountingGroup(BroadcastGroup):
    """Counts when it is asked to deliver, and has as many subscribers as it is given."""

    def __init__(self, subscribers: int) -> None:
        self.delivered_s: list[float] = []
        self._count = subscribers

    def __len__(self) -> int:
        return self._count

    def deliver(self) -> None:
        self.delivered_s.append(asyncio.get_running_loop().time())


class Cores:
    """Counts the time of cores, in seconds, instead of `time.thread_time`."""

    def __init__(self) -> None:
        self.used_s = 0.0

    def thread_time(self) -> float:
        return self.used_s


class CostlyGroup(CountingGroup):
    """Takes some time of a core for each delivery, which takes no time of day."""

    def __init__(self, cores: Cores, cost_s: float) -> None:
        super().__init__(subscribers=2)
        self._cores, self._cost_s = cores, cost_s

    def deliver(self) -> None:
        self._cores.used_s += self._cost_s
        super().deliver()


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Cores:
    cores = Cores()
    monkeypatch.setattr(time, "thread_time", cores.thread_time)
    return cores


async def delivered_times(pacer: Pacer, group: CountingGroup, *, every_s: float) -> list[float]:
    """Return when a group delivers to which an event comes every so many seconds, for two."""
    for _ in range(round(2 / every_s)):
        pacer.schedule(group)
        await asyncio.sleep(every_s)
    return group.delivered_s


async def test_events_are_delivered_at_once_within_the_share_of_a_core(cores: Cores) -> None:
    group = CostlyGroup(cores, cost_s=0.004)
    times = await delivered_times(Pacer(0.5), group, every_s=0.01)
    assert times == pytest.approx([0.01 * number for number in range(200)])


@pytest.mark.parametrize("share", [0.1, 0.4, 1.0])
async def test_events_are_gathered_so_that_delivering_keeps_to_its_share(
    cores: Cores, share: float
) -> None:
    group = CostlyGroup(cores, cost_s=0.004)
    times = await delivered_times(Pacer(share), group, every_s=0.001)
    # A burst of 20 ms of a core comes on top of the share.
    assert 2 * share * 0.9 <= len(times) * 0.004 <= 2 * share + 0.03


async def test_events_are_gathered_for_a_bounded_time(cores: Cores) -> None:
    group = CostlyGroup(cores, cost_s=10.0)
    times = await delivered_times(Pacer(0.1), group, every_s=0.01)
    gaps_s = [after - before for before, after in pairwise(times)]
    assert max(gaps_s) <= 0.06 + 1e-9


async def test_an_overload_that_is_over_makes_nothing_gather_any_more(cores: Cores) -> None:
    pacer = Pacer(0.1)
    await delivered_times(pacer, CostlyGroup(cores, cost_s=10.0), every_s=0.01)
    await asyncio.sleep(0.1)  # virtual; longer than events are ever gathered
    times = await delivered_times(pacer, CostlyGroup(cores, cost_s=0.0001), every_s=0.01)
    assert len(times) == 200


async def test_a_group_that_costs_much_makes_the_others_gather(cores: Cores) -> None:
    pacer, quiet, busy = Pacer(0.5), CountingGroup(subscribers=2), CostlyGroup(cores, cost_s=1.0)
    for _ in range(2):
        pacer.schedule(busy)
        pacer.schedule(quiet)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [len(quiet.delivered_s), len(busy.delivered_s)] == [1, 1]
    for _ in range(3):
        pacer.schedule(quiet)
        await asyncio.sleep(0)
    assert len(quiet.delivered_s) == 1
    await asyncio.sleep(0.05)
    assert len(quiet.delivered_s) == 2


async def test_a_single_subscriber_does_not_wait_for_other_groups(cores: Cores) -> None:
    pacer, busy, alone = Pacer(0.5), CostlyGroup(cores, cost_s=1.0), CountingGroup(subscribers=1)
    pacer.schedule(busy)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for count in range(1, 20):
        pacer.schedule(busy)
        pacer.schedule(alone)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(alone.delivered_s) == count
    assert len(busy.delivered_s) == 1


async def test_the_time_from_an_arrival_to_the_sockets_is_sampled() -> None:
    pacer, group = Pacer(0.5), SlowGroup(subscribers=1)
    before = dict(COUNTS.stages.times()).get(Stage.EDGE_TO_SOCKET)
    pacer.schedule(group)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    after = dict(COUNTS.stages.times())[Stage.EDGE_TO_SOCKET]
    assert sum(after.counts) == (sum(before.counts) if before else 0) + 1


async def test_single_subscribers_share_the_loop_with_everything_else() -> None:
    pacer = Pacer(0.5)
    groups = [SlowGroup(subscribers=1) for _ in range(20)]
    for group in groups:
        pacer.schedule(group)
    turns = 0
    while not all(group.delivered_s for group in groups):
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 5
    assert [len(group.delivered_s) for group in groups] == [1] * 20


class SlowGroup(CountingGroup):
    """Takes three milliseconds to deliver."""

    def deliver(self) -> None:
        ends_s = time.perf_counter() + 0.003
        while time.perf_counter() < ends_s:
            pass
        super().deliver()


class Alone:
    """The only subscriber of a group of one entity's alerts."""

    def __init__(self, *, is_zipped: bool = False, pacer: Pacer | None = None) -> None:
        self.client = Client()
        self.transport: Transport = self.client
        self.gzip = Gzip() if is_zipped else None
        self.calls: list[str] = []
        self.metrics = StreamMetrics()
        self._window = Window(0, 1 << 20)
        self._partition = Partition(ALERTS, 0)
        stream = one_channel("alerts", {"entity_id": "own"})
        feed = Feed(
            stream,
            [TopicTail(TopicInfo(ALERTS, bytes(16), 1), {self._partition: self._window})],
            [[self._partition]],
            CursorCodec(stream.identity, 1),
            render,
            write_bytes_max=1_000,
            history_bytes_max=0,
        )
        assert feed.is_narrow
        self.pacer = pacer or Pacer(0.5)
        self.group = BroadcastGroup(feed, self.pacer, self.metrics, checkpoint_records=3)

    def wake(self) -> None:
        self.calls.append("wake")

    def tick(self) -> None:
        self.calls.append("tick")
        self.client.write(Chunk(b": tick\n"))

    def finish(self) -> None:
        self.calls.append("finish")

    def leave(self) -> None:
        self.calls.append("leave")

    def arrives(self, *entities: str) -> int:
        """Let alerts of entities arrive, and the group deliver; return the number of writes."""
        self.append(*entities)
        before = len(self.client.writes)
        self.group.deliver()
        return len(self.client.writes) - before

    def append(self, *entities: str) -> None:
        """Let alerts of entities arrive."""
        for entity in entities:
            offset = self._window.next_offset
            value = alert(entity, offset)
            record = Record(self._partition, offset, 1, entity.encode(), value, None)
            self._window.append(Batch((record,), offset + 1))


async def test_the_only_event_of_an_only_subscriber_is_written_and_counted() -> None:
    alone = Alone()
    alone.group.join(alone, (0,))
    await asyncio.sleep(1)  # virtual; the loop's time is no longer 0
    assert alone.arrives("other", "own", "other") == 1
    assert numbers(alone.client) == [1]
    assert alone.group.last_sent == (2,)
    assert alone.group.last_sent_s == asyncio.get_running_loop().time()
    assert alone.group.feed.horizon == (3,)
    assert (alone.metrics.events, sum(alone.metrics.lag_counts)) == (1, 1)
    assert alone.metrics.bytes == sum(map(len, alone.client.writes))


async def test_an_only_subscriber_is_ticked_after_many_events_of_others() -> None:
    alone = Alone()
    alone.group.join(alone, (0,))
    for entity in ("other", "other", "own", "other", "other"):
        alone.arrives(entity)
    assert not alone.calls
    alone.arrives("own", "other", "other")
    assert not alone.calls
    alone.arrives("other")
    assert alone.calls == ["tick"]


async def test_an_only_subscriber_that_is_paused_keeps_its_position() -> None:
    alone = Alone()
    alone.group.join(alone, (0,))
    alone.client.stall()
    alone.arrives("own")
    assert not alone.client.writes
    assert alone.calls == ["wake"]
    assert alone.group.leave(alone) == (0,)


async def test_the_only_event_of_an_only_subscriber_is_compressed_if_it_accepts_gzip() -> None:
    alone = Alone(is_zipped=True)
    alone.group.join(alone, (0,))
    alone.group.write_alone(alone, Chunk(b": begun\n"))
    assert alone.arrives("own") == 1
    assert alone.gzip is not None
    alone.group.leave(alone)
    whole = gzip.decompress(b"".join(alone.client.writes) + alone.gzip.end())
    assert whole.count(b"event: risk_alert") == 1


class FailingTransport(Client):
    def write(self, chunk: Chunk) -> None:
        raise RuntimeError(f"{len(chunk.data)} bytes cannot be written")


async def delivered_by_pacer(pacer: Pacer, subscribers: list[Alone]) -> None:
    for subscriber in subscribers:
        pacer.schedule(subscriber.group)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_events_of_single_subscribers_are_rendered_first_and_then_written_in_a_row() -> None:
    pacer, rendered_first = Pacer(0.5), []
    subscribers = [Alone(pacer=pacer) for _ in range(10)]

    class Noting(Client):
        def write(self, chunk: Chunk) -> None:
            rendered_first.append(all(other.group.last_sent for other in subscribers))
            super().write(chunk)

    for number, subscriber in enumerate(subscribers):
        subscriber.transport = subscriber.client = Noting()
        subscriber.group.join(subscriber, (0,))
        subscriber.group.last_sent = ()
        subscriber.append(*["own"] * (1 + number % 2))
    await delivered_by_pacer(pacer, subscribers)
    assert rendered_first == [True] * 10
    assert [numbers(each.client) for each in subscribers] == [[0], [0, 1]] * 5


async def test_an_event_is_written_before_the_checkpoint_after_it() -> None:
    alone = Alone()
    alone.group.join(alone, (0,))
    alone.append("own", "other", "other", "other")
    await delivered_by_pacer(alone.pacer, [alone])
    assert alone.calls == ["tick"]
    assert [b"risk_alert" in written for written in alone.client.writes] == [True, False]


async def test_a_write_that_fails_closes_its_own_client_only() -> None:
    pacer = Pacer(0.5)
    subscribers = [Alone(pacer=pacer) for _ in range(3)]
    subscribers[1].transport = FailingTransport()
    for subscriber in subscribers:
        subscriber.group.join(subscriber, (0,))
        subscriber.append("own")
    await delivered_by_pacer(pacer, subscribers)
    assert [each.calls for each in subscribers] == [[], ["leave"], []]
    assert [numbers(each.client) for each in subscribers] == [[0], [], [0]]
    subscribers[0].arrives("own")
    assert numbers(subscribers[0].client) == [0, 1]
