import pytest

from schemas.vocabularies import GapReason
from sse_edge.delivery import control_events
from sse_edge.delivery.start import Gap
from sse_edge.errors import UnavailableReason
from sse_edge.frame import FRAME_BYTES_MAX
from sse_edge.log.record import Partition
from sse_edge.settings import EdgeSettings
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialect import ClientInfo
from tests.support.sse import Block, Reader

MYSTOCKS = CHANNELS["alerts"].dialect
_NO_BROKER, _DRAINING = UnavailableReason.NO_BROKER, UnavailableReason.DRAINING
CLIENT = ClientInfo("c", "alerts")


def blocks_of(data: bytes) -> list[Block]:
    reader = Reader()
    blocks = reader.feed(data)
    assert reader.is_between_blocks
    return blocks


def test_gaps_become_one_event_for_each_reason_with_all_of_its_partitions() -> None:
    gaps = [
        Gap(GapReason.EXPIRED, Partition("p.risk.alerts", 0), 3, 6),
        Gap(GapReason.FUTURE, Partition("p.risk.alerts", 1), 9, 4),
        Gap(GapReason.EXPIRED, Partition("p.risk.alerts", 2), 1, 2),
    ]
    expired, future = blocks_of(control_events.gap_events(MYSTOCKS, CLIENT, gaps, "p."))
    assert expired.event == future.event == "gap"
    assert (expired.inner["reason"], future.inner["reason"]) == ("expired", "future")
    assert [partition["partition"] for partition in expired.inner["partitions"]] == [0, 2]
    assert future.inner["partitions"] == [
        {"topic": "risk.alerts", "partition": 1, "from_offset": 9, "to_offset": 4}
    ]


def test_a_gap_of_many_partitions_becomes_several_events_of_less_than_64_kib() -> None:
    topic = "t" * 249
    gaps = [
        Gap(GapReason.EXPIRED, Partition(topic, number), 1 << 60, (1 << 60) + 1)
        for number in range(1_000)
    ]
    events = blocks_of(control_events.gap_events(MYSTOCKS, CLIENT, gaps, ""))
    assert max(len(event.raw) for event in events) < FRAME_BYTES_MAX
    numbers = [at["partition"] for event in events for at in event.inner["partitions"]]
    assert numbers == list(range(1_000))


@pytest.mark.parametrize("name", CHANNELS)
def test_no_control_event_of_any_dialect_has_an_id(name: str) -> None:
    dialect, client = CHANNELS[name].dialect, ClientInfo("c", name)
    settings = EdgeSettings()
    data = control_events.unavailable(dialect, client, _NO_BROKER, settings, "0a1b2c3d4e5f")
    data += control_events.unavailable(dialect, client, _DRAINING, settings, "0a1b2c3d4e5f")
    data += control_events.notice(dialect, client, "conflated", {"merged": 3})
    if dialect.opening is not None:
        data += control_events.opening(dialect, client, settings)
    if dialect.heartbeat is not None:
        data += control_events.heartbeat(dialect, client)
    for block in blocks_of(data):
        assert block.id is None
        assert block.data is not None
    # The id of the line in the log is data, and no cursor.
    assert data.count(b'"id":"0a1b2c3d4e5f"') == 2


def test_clients_are_sent_back_at_different_times_within_twice_the_setting() -> None:
    settings = EdgeSettings(retry_ms=1_000)
    times_ms = {control_events.retry_ms(settings) for _ in range(100)}
    assert len(times_ms) > 50
    assert all(1_000 <= time_ms <= 2_000 for time_ms in times_ms)
