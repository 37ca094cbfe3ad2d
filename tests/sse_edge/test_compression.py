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
def test_a_client_reads_its_own_bytes_and_those_shared_while_it_was_joined(
    script: list[tuple[int, str, bytes]],
) -> None:
    shared = SharedGzip()
    clients = [Gzip() for _ in range(3)]
    joined: set[int] = set()
    plain = [b"hello"] * 3
    sent = [client.encode(b"hello") for client in clients]
    for index, step, data in script:
        client, is_joined = clients[index], index in joined
        match step:
            case "join" if not is_joined:
                client.join(shared)
                joined.add(index)
            case "leave" if is_joined:
                client.leave(shared)
                joined.discard(index)
            case "alone" if not is_joined:
                plain[index] += data
                sent[index] += client.encode(data)
            case "shared":
                encoded = shared.encode(data)
                for member in joined:
                    plain[member] += data
                    sent[member] += encoded
            case _:
                pass
    for index, client in enumerate(clients):
        if index in joined:
            client.leave(shared)
        assert gzip.decompress(sent[index] + client.end()) == plain[index]


def test_each_write_can_be_decompressed_at_once() -> None:
    client, reader = Gzip(), zlib.decompressobj(wbits=31)
    for number in range(5):
        assert reader.decompress(client.encode(b"event %d" % number)) == b"event %d" % number


def test_an_empty_stream_is_a_gzip_file() -> None:
    assert gzip.decompress(Gzip().end()) == b""
