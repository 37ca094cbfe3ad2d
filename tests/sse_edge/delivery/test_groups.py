import pytest

from sse_edge.delivery.broadcast import BroadcastGroup
from sse_edge.delivery.start import FromEdge
from sse_edge.streams.requests import one_channel
from sse_edge.streams.stream import Stream
from tests.support.edge import Edge, alerts_log, numbers, running_edge, write_alerts

pytestmark = pytest.mark.virtual_time


async def group_of(edge: Edge, stream: Stream) -> BroadcastGroup:
    return (await edge.node.resolver.resolve(stream, FromEdge.LATEST)).group


async def test_connections_of_one_stream_share_a_group_and_another_stream_has_its_own() -> None:
    everything, mine = one_channel("alerts", {}), one_channel("alerts", {"entity_id": "mine"})
    async with running_edge(alerts_log(partitions=2)) as edge:
        group = await group_of(edge, everything)
        assert await group_of(edge, one_channel("alerts", {})) is group
        assert await group_of(edge, mine) is not group


async def test_a_group_is_kept_while_a_client_is_subscribed_and_then_dropped() -> None:
    stream = one_channel("alerts", {})
    async with running_edge(alerts_log()) as edge:
        client = edge.connect(stream)
        await client.until(2)
        group = await group_of(edge, stream)
        edge.node.groups.release()
        assert await group_of(edge, stream) is group
        assert list(edge.node.groups.subscribed) == [group]
        await edge.drop(client)
        edge.node.groups.release()
        assert await group_of(edge, stream) is not group
        assert not list(edge.node.groups.subscribed)


async def test_a_group_whose_topic_was_replaced_is_given_to_no_new_connection() -> None:
    log, stream = alerts_log(), one_channel("alerts", {})
    async with running_edge(log, metadata_s=1) as edge:
        client = edge.connect(stream)
        await client.until(2)
        group = await group_of(edge, stream)
        log.add_partition("risk.alerts")
        await edge.node.tail.check_now()
        assert await group_of(edge, stream) is not group
        write_alerts(log, 1, partition=1)
        await client.until(1, event="risk_alert")
        assert numbers(client) == [1]


async def test_a_codec_is_kept_for_the_next_client_of_its_stream() -> None:
    async with running_edge(alerts_log()) as edge:
        node, everything = edge.node, one_channel("alerts", {})
        assert node.codec(everything) is node.codec(one_channel("alerts", {}))
        for number in range(200):
            node.codec(one_channel("alerts", {"entity_id": f"p{number}"}))
        assert len(node.groups._codecs) <= 64
