import pytest

from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialect import ClientInfo, Dialect
from tests.support.sse import Reader

DIALECTS = {channel.dialect.name: channel.dialect for channel in CHANNELS.values()}
CLIENT = ClientInfo("me", "training", ("T",))
NOW = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_a_stream_opens_with_a_time_to_reconnect(dialect: Dialect) -> None:
    opening = dialect.open(CLIENT, NOW, 2_500)
    assert b"retry: 2500\n" in opening
    if dialect.opening is None:
        assert opening == b"retry: 2500\n"
    else:
        assert len(Reader().feed(opening)) == 1


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_a_heartbeat_is_a_block_or_a_comment_that_no_client_sees(dialect: Dialect) -> None:
    blocks = Reader().feed(dialect.beat(CLIENT, NOW))
    assert len(blocks) == (0 if dialect.heartbeat is None else 1)
