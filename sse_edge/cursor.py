"""The cursor: everything that a connection is, as a short text that the client keeps.

    version and flags   1 byte    version 1 or 2; bit 7: the stream had ended
    check               4 bytes   BLAKE2s over the rest and the stream's identity; keyed by the
                                  secret where one is configured
    stream              2 bytes   hash of the identity, to tell a foreign cursor from a damaged one
    then for each topic of the stream, in the stream's own order:
      incarnation       4 bytes   hash of the Kafka topic id: offsets of a topic that was deleted
                                  and made again mean something else
      count             varint    n > 0: the next offsets of partitions 0 to n-1, as varints
                                  0: a varint m, then m pairs of partition and next offset

in base64url without padding, so only `[A-Za-z0-9_-]`. Each partition has its resolved next offset,
idle ones too; there is no "latest" in a cursor.

Twelve partitions always fit in 128 characters. A stream of more has version 2: after a topic's
count comes a base, the lowest of its offsets, and each offset stands as what it exceeds the base
by. Keys spread over partitions evenly, so the differences take one or two bytes where the offsets
take four: some 24 partitions fit in 128 characters. It says as much as version 1, and a node needs
nothing but the text to read it; a base that is published beside it would be shorter still, but a
cursor would then be worth no more than what another topic has kept.

Pure. Bounds are checked here, before anything reaches Kafka: an offset of 2^63 kills a fetcher.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s

from sse_edge.errors import ForeignCursor, InvalidCursor

VERSION = 1
VERSION_OF_MANY = 2
PARTITIONS_OF_VERSION_1 = 12
OFFSET_MAX = 2**63 - 1
CHARS_MAX = 2048
"""No cursor of a stream that this edge declares is longer; what is longer is not looked at."""

_ENDED = 0x80
_CHECK_BYTES = 4
_STREAM_BYTES = 2
_INCARNATION_BYTES = 4
_HEAD_BYTES = 1 + _CHECK_BYTES + _STREAM_BYTES
_PARTITIONS_MAX = 4096
_VARINT_BYTES_MAX = 9
_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class TopicPosition:
    """Where a connection stands in one topic."""

    incarnation: bytes
    offsets: tuple[tuple[int, int], ...]
    """Partition and next offset wanted, by ascending partition."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a connection stands in its stream."""

    topics: tuple[TopicPosition, ...]
    ended: bool = False
    """Whether the stream's last event has been delivered."""


def incarnation_of(topic_id: bytes) -> bytes:
    """What a cursor remembers of a Kafka topic id."""
    return blake2s(topic_id, digest_size=_INCARNATION_BYTES, person=b"incarn").digest()


class CursorCodec:
    """Cursors of one stream to text and back."""

    def __init__(self, identity: str, topics: int, secret: bytes = b"", prefix: str = "") -> None:
        """Bind to a stream.

        Args:
            identity: its topics, key and filter in words; the same on every node.
            topics: how many it reads.
            secret: signs the text; at most 32 bytes count.
            prefix: stands before the text, where a cursor has to say by itself whose it is.
        """
        self._prefix = prefix
        self._topics = topics
        self._secret = secret[:32]
        self._identity = identity.encode()
        self._stream = blake2s(self._identity, digest_size=_STREAM_BYTES, person=b"stream").digest()

    def encode(self, cursor: Cursor) -> str:
        """Write a cursor."""
        writer = self.writer(
            [(topic.incarnation, [at for at, _ in topic.offsets]) for topic in cursor.topics]
        )
        offsets = [offset for topic in cursor.topics for _, offset in topic.offsets]
        return writer.write(offsets, ended=cursor.ended).decode()

    def writer(self, layout: Sequence[tuple[bytes, Sequence[int]]]) -> "CursorWriter":
        """What writes many cursors that differ in their offsets only.

        Args:
            layout: for each topic, its incarnation and its partitions in ascending order.
        """
        prefix = self._prefix.encode()
        return CursorWriter(self._stream, self._identity, self._secret, layout, prefix)

    def decode(self, text: str) -> Cursor:
        """Read a cursor.

        Raises:
            ForeignCursor: it belongs to another stream.
            InvalidCursor: it is none, or has been altered; the message says what is wrong.
        """
        if not text.startswith(self._prefix):
            raise ForeignCursor(f"the cursor belongs to another stream than {self._prefix}'s")
        raw = _from_base64(text.removeprefix(self._prefix))
        if len(raw) < _HEAD_BYTES:
            raise InvalidCursor(f"the cursor ends after {len(raw)} bytes, too early for any")
        version = raw[0] & ~_ENDED
        if version not in (VERSION, VERSION_OF_MANY):
            raise InvalidCursor(f"the cursor is of version {version}; this edge reads 1 and 2")
        flags, check, rest = raw[:1], raw[1 : 1 + _CHECK_BYTES], raw[1 + _CHECK_BYTES :]
        if rest[:_STREAM_BYTES] != self._stream:
            raise ForeignCursor(
                "the cursor belongs to another stream: topics, entity and event filter "
                "must be those that it was given out for"
            )
        if check != self._check(flags, rest):
            raise InvalidCursor("the cursor's checksum is wrong: it has been altered or cut")
        reading = _Reading(rest, _STREAM_BYTES)
        has_bases = version == VERSION_OF_MANY
        topics = tuple(_topic_position(reading, has_base=has_bases) for _ in range(self._topics))
        if not reading.at_end:
            raise InvalidCursor("something follows the cursor's last offset")
        return Cursor(topics, ended=bool(raw[0] & _ENDED))

    def _check(self, flags: bytes, rest: bytes) -> bytes:
        return _checksum(flags + rest + self._identity, self._secret)


class CursorWriter:
    """Writes cursors of one stream over the same partitions, one after another.

    Each event of a stream has a cursor, and from one event to the next a single offset differs. So
    what stays is prepared, and `cells` are moved one at a time.
    """

    def __init__(
        self,
        stream: bytes,
        identity: bytes,
        secret: bytes,
        layout: Sequence[tuple[bytes, Sequence[int]]],
        prefix: bytes = b"",
    ) -> None:
        self._prefix = prefix
        self._identity = identity
        self._secret = secret
        self._sizes = [len(numbers) for _, numbers in layout]
        has_bases = sum(self._sizes) > PARTITIONS_OF_VERSION_1
        version = VERSION_OF_MANY if has_bases else VERSION
        self._flags = bytes((version,)), bytes((version | _ENDED,))
        self._bases: list[int] | None = [0] * sum(self._sizes) if has_bases else None
        self._heads: list[bytes] = []
        """What stands before each topic's first offset, or its base."""
        self._befores: list[bytes] = []
        """What stands before each offset."""
        for incarnation, numbers in layout:
            is_dense = bool(numbers) and list(numbers) == list(range(len(numbers)))
            count = varint(len(numbers)) if is_dense else b"\0" + varint(len(numbers))
            self._heads.append(incarnation + count)
            self._befores += [b"" if is_dense else varint(number) for number in numbers]
        self._stream = stream

    def start(self, offsets: Sequence[int]) -> list[bytes]:
        """The cells of a position, which `move` changes and `finish` writes, until the next start.

        They are what stands before an offset, and the offset, in turn.
        """
        cells: list[bytes] = []
        before, at = self._stream, 0
        for head, size in zip(self._heads, self._sizes, strict=True):
            base = 0
            before += head
            if self._bases is not None:
                base = min(offsets[at : at + size], default=0)
                self._bases[at : at + size] = [base] * size
                before += varint(base)
            for place in range(at, at + size):
                cells += [before + self._befores[place], varint(offsets[place] - base)]
                before = b""
            at += size
        cells.append(before)
        return cells

    def move(self, cells: list[bytes], at: int, offset: int) -> None:
        """Change the offset of the `at`-th partition to a later one."""
        cells[2 * at + 1] = varint(offset if self._bases is None else offset - self._bases[at])

    def finish(self, cells: list[bytes], *, ended: bool = False) -> bytes:
        """The cursor that cells stand for."""
        flags = self._flags[ended]
        rest = b"".join(cells)
        check = _checksum(flags + rest + self._identity, self._secret)
        text = b2a_base64(flags + check + rest, newline=False)
        return self._prefix + text.translate(_TO_URLSAFE).rstrip(b"=")

    def write(self, offsets: Sequence[int], *, ended: bool = False) -> bytes:
        """The cursor of a position."""
        return self.finish(self.start(offsets), ended=ended)


def varint(value: int) -> bytes:
    """A number in as many bytes as it needs, seven bits each, the lowest first."""
    assert 0 <= value <= OFFSET_MAX
    if value <= 0x7F:  # noqa: PLR2004  # seven bits
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004  # seven bits
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _checksum(over: bytes, secret: bytes) -> bytes:
    return blake2s(over, digest_size=_CHECK_BYTES, key=secret, person=b"cursor").digest()


def _topic_position(reading: "_Reading", *, has_base: bool) -> TopicPosition:
    incarnation = reading.take(_INCARNATION_BYTES)
    count = reading.varint("partition count", _PARTITIONS_MAX)
    is_dense = count > 0
    if not is_dense:
        count = reading.varint("partition count", _PARTITIONS_MAX)
    base = reading.varint("base", OFFSET_MAX) if has_base else 0
    offsets = [
        (
            number if is_dense else reading.varint("partition", _PARTITIONS_MAX),
            base + reading.varint("offset", OFFSET_MAX - base),
        )
        for number in range(count)
    ]
    numbers = [number for number, _ in offsets]
    if numbers != sorted(set(numbers)):
        raise InvalidCursor("the cursor's partitions are not in ascending order")
    return TopicPosition(incarnation, tuple(offsets))


class _Reading:
    """Bytes that are read from the left, and never beyond their end."""

    def __init__(self, raw: bytes, at: int) -> None:
        self._raw = raw
        self._at = at

    @property
    def at_end(self) -> bool:
        return self._at == len(self._raw)

    def take(self, count: int) -> bytes:
        taken = self._raw[self._at : self._at + count]
        if len(taken) < count:
            raise InvalidCursor("the cursor ends in the middle of a topic")
        self._at += count
        return taken

    def varint(self, what: str, at_most: int) -> int:
        value = 0
        for index in range(_VARINT_BYTES_MAX):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << (7 * index)
            if byte <= 0x7F:  # noqa: PLR2004  # the last byte of a varint
                if value > at_most:
                    raise InvalidCursor(f"the cursor's {what} is {value}; at most {at_most} is one")
                return value
        raise InvalidCursor(f"the cursor's {what} has more than 63 bits")


def _from_base64(text: str) -> bytes:
    if len(text) > CHARS_MAX:
        raise InvalidCursor(f"the cursor has {len(text)} characters; none has over {CHARS_MAX}")
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (Base64Error, UnicodeEncodeError, ValueError) as error:
        raise InvalidCursor(f"the cursor is no base64url text: {error}") from error
    # The decoder overlooks foreign characters and stray bits; a cursor has one spelling only.
    if urlsafe_b64encode(raw).rstrip(b"=") != text.encode():
        raise InvalidCursor("the cursor holds characters other than A-Z, a-z, 0-9, _ and -")
    return raw
