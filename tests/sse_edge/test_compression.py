import gzip
import zlib

from hypothesis import given, strategies as st

from sse_edge.compression import Gzip, SharedGzip

steps = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(("join", "leave", "alone", "shared")), st.binary()
    ),
    max_size=60,
)


@given(steps)
def test_a_client_reads_what_it_got_alone_and_what_was_shared_meanwhile(
    script: list[tuple[int, str, bytes]],
) -> None:
    shared = SharedGzip()
    clients = [Gzip() for _ in range(3)]
    joined: set[int] = set()
    said = [b"hello"] * 3
    sent = [client.encode(b"hello") for client in clients]
    for which, what, data in script:
        client, is_joined = clients[which], which in joined
        match what:
            case "join" if not is_joined:
                client.join(shared)
                joined.add(which)
            case "leave" if is_joined:
                client.leave(shared)
                joined.discard(which)
            case "alone" if not is_joined:
                said[which] += data
                sent[which] += client.encode(data)
            case "shared":
                encoded = shared.encode(data)
                for one in joined:
                    said[one] += data
                    sent[one] += encoded
            case _:
                pass
    for which, client in enumerate(clients):
        if which in joined:
            client.leave(shared)
        assert gzip.decompress(sent[which] + client.end()) == said[which]


def test_each_write_can_be_read_at_once() -> None:
    client, reader = Gzip(), zlib.decompressobj(wbits=31)
    for number in range(5):
        assert reader.decompress(client.encode(b"event %d" % number)) == b"event %d" % number


def test_a_stream_that_said_nothing_is_a_gzip_file_too() -> None:
    assert gzip.decompress(Gzip().end()) == b""
