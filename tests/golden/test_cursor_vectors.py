import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# The one place where the vectors meet the code: when modules move, these lines change, and the
# JSON files never do.
from sse_edge.cursor import Cursor, CursorCodec, TopicPosition
from sse_edge.streams.requests import many_channels, of_entities, one_channel
from sse_edge.streams.stream import Stream

GOLDEN = Path(__file__).parent
VECTORS = json.loads((GOLDEN / "cursors.json").read_text(encoding="ascii"))
STREAMS = json.loads((GOLDEN / "streams.json").read_text(encoding="ascii"))

each_vector = pytest.mark.parametrize(
    "vector", [pytest.param(vector, id=vector["name"]) for vector in VECTORS]
)
each_stream = pytest.mark.parametrize(
    "golden", [pytest.param(golden, id=golden["name"]) for golden in STREAMS]
)


def codec_of(vector: Mapping[str, Any]) -> CursorCodec:
    secret = vector["secret"].encode("ascii")
    return CursorCodec(vector["identity"], vector["topics_count"], secret, vector["prefix"])


def cursor_of(vector: Mapping[str, Any]) -> Cursor:
    topics = tuple(
        TopicPosition(
            bytes.fromhex(topic["incarnation"]),
            tuple((partition, offset) for partition, offset in topic["offsets"]),
        )
        for topic in vector["topics"]
    )
    return Cursor(topics, ended=vector["ended"])


def stream_of(golden: Mapping[str, Any]) -> Stream:
    if golden["topics"] is not None:
        stream = many_channels(golden["topics"], golden["events"])
    elif golden["entities"]:
        stream = of_entities(golden["channel"], golden["entities"], golden["events"])
    else:
        stream = one_channel(golden["channel"], {}, golden["events"])
    return replace(stream, tenant=golden["tenant"])


@each_vector
def test_a_cursor_is_encoded_as_the_text_that_clients_hold(vector: dict[str, Any]) -> None:
    assert codec_of(vector).encode(cursor_of(vector)) == vector["text"]


@each_vector
def test_the_text_that_clients_hold_is_decoded_to_the_same_cursor(vector: dict[str, Any]) -> None:
    assert codec_of(vector).decode(vector["text"]) == cursor_of(vector)


@each_vector
def test_the_first_byte_has_the_version_and_whether_the_stream_has_ended(
    vector: dict[str, Any],
) -> None:
    text = vector["text"].removeprefix(vector["prefix"])
    assert urlsafe_b64decode(text[:4])[0] == vector["version"] | (0x80 if vector["ended"] else 0)


@each_vector
def test_a_cursor_has_only_characters_that_need_no_escape(vector: dict[str, Any]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]+", vector["text"])


def test_the_vectors_cover_both_versions_and_no_text_twice() -> None:
    assert {vector["version"] for vector in VECTORS} == {1, 2}
    assert len({vector["text"] for vector in VECTORS}) == len(VECTORS)


@each_stream
def test_the_identity_that_binds_a_cursor_to_its_stream_stays_the_same(
    golden: dict[str, Any],
) -> None:
    assert stream_of(golden).identity == golden["identity"]


@each_stream
def test_the_prefix_of_the_cursors_of_a_stream_stays_the_same(golden: dict[str, Any]) -> None:
    assert stream_of(golden).cursor_prefix == golden["cursor_prefix"]
