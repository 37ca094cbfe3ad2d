"""The cursor: everything that a connection is, as a short text that the client keeps.

    version and flags   1 byte    bit 7: the stream had ended
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

Pure. Bounds are checked here, before anything reaches Kafka: an offset of 2^63 kills a fetcher.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s

from sse_edge.errors import ForeignCursor, InvalidCursor

VERSION = 1
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
_FLAGS = bytes((VERSION,))
_FLAGS_ENDED = bytes((VERSION | _ENDED,))
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

    def __init__(self, identity: str, topics: int, secret: bytes = b"") -> None:
        """Bind to a stream.

        Args:
            identity: its topics, key and filter in words; the same on every node.
            topics: how many it reads.
            secret: signs the text; at most 32 bytes count.
        """
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
        return CursorWriter(self._stream, self._identity, self._secret, layout)

    def decode(self, text: str) -> Cursor:
        """Read a cursor.

        Raises:
            ForeignCursor: it belongs to another stream.
            InvalidCursor: it is none, or has been altered; the message says what is wrong.
        """
        raw = _from_base64(text)
        if len(raw) < _HEAD_BYTES:
            raise InvalidCursor(f"the cursor ends after {len(raw)} bytes, too early for any")
        if raw[0] & ~_ENDED != VERSION:
            raise InvalidCursor(
                f"the cursor is of version {raw[0] & ~_ENDED}; this edge reads version {VERSION}"
            )
        flags, check, rest = raw[:1], raw[1 : 1 + _CHECK_BYTES], raw[1 + _CHECK_BYTES :]
        if rest[:_STREAM_BYTES] != self._stream:
            raise ForeignCursor(
                "the cursor belongs to another stream: topics, entity and event filter "
                "must be those that it was given out for"
            )
        if check != self._check(flags, rest):
            raise InvalidCursor("the cursor's checksum is wrong: it has been altered or cut")
        reading = _Reading(rest, _STREAM_BYTES)
        topics = tuple(_topic_position(reading) for _ in range(self._topics))
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
    ) -> None:
        self._identity = identity
        self._secret = secret
        self._cells: list[bytes] = []
        """What stands before an offset, and the offset, in turn; what follows the last one."""
        before = stream
        for incarnation, numbers in layout:
            before += incarnation
            is_dense = bool(numbers) and list(numbers) == list(range(len(numbers)))
            before += varint(len(numbers)) if is_dense else b"\0" + varint(len(numbers))
            for number in numbers:
                self._cells += [before if is_dense else before + varint(number), b"\0"]
                before = b""
        self._cells.append(before)

    def start(self, offsets: Sequence[int]) -> list[bytes]:
        """The cells of a position, which `move` and `finish` work on."""
        cells = self._cells.copy()
        cells[1::2] = map(varint, offsets)
        return cells

    def finish(self, cells: list[bytes], *, ended: bool = False) -> bytes:
        """The cursor that cells stand for."""
        flags = _FLAGS_ENDED if ended else _FLAGS
        rest = b"".join(cells)
        check = _checksum(flags + rest + self._identity, self._secret)
        text = b2a_base64(flags + check + rest, newline=False)
        return text.translate(_TO_URLSAFE).rstrip(b"=")

    def write(self, offsets: Sequence[int], *, ended: bool = False) -> bytes:
        """The cursor of a position."""
        return self.finish(self.start(offsets), ended=ended)


def move(cells: list[bytes], at: int, offset: int) -> None:
    """Change the offset of the `at`-th partition of a writer's cells."""
    cells[2 * at + 1] = varint(offset)


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


def _topic_position(reading: "_Reading") -> TopicPosition:
    incarnation = reading.take(_INCARNATION_BYTES)
    count = reading.varint("partition count", _PARTITIONS_MAX)
    if count > 0:
        offsets = [(number, reading.varint("offset", OFFSET_MAX)) for number in range(count)]
    else:
        count = reading.varint("partition count", _PARTITIONS_MAX)
        offsets = [
            (reading.varint("partition", _PARTITIONS_MAX), reading.varint("offset", OFFSET_MAX))
            for _ in range(count)
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
