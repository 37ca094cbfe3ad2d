"""The cursor: a connection's whole state, as a short text that the client keeps.

    version and flags   1 byte    version 1 or 2; bit 7: the stream has ended
    check               4 bytes   BLAKE2s over the rest and the stream's identity; keyed by the
                                  secret, if one is configured
    stream              2 bytes   hash of the identity, to tell a foreign cursor from a damaged one
    then for each topic of the stream, in the stream's order:
      incarnation       4 bytes   hash of the Kafka topic id: offsets of a topic that was deleted
                                  and created again have another meaning
      count             varint    n > 0: the next offsets of partitions 0 to n-1, as varints
                                  0: a varint m, then m pairs of partition and next offset

The bytes are in base64url without padding, so a cursor has the characters `[A-Za-z0-9_-]` only.
Every partition has its resolved next offset, also an idle one; a cursor never says "latest".

Twelve partitions always fit in 128 characters. A stream of more partitions has version 2: after a
topic's count follows a base, its lowest offset, and each offset is written as its difference from
the base. Keys spread over partitions evenly, so a difference takes one or two bytes, and an offset
four: some 24 partitions fit in 128 characters. Version 2 holds the same information as version 1,
and a node needs only the text to read it. A base in a topic beside it would make the text shorter,
but a cursor would then be valid only as long as that topic keeps the base.

With a secret, cursors are encrypted (versions 3 to 5), and others' traffic is not readable in them:

    version and flags   1 byte    version 3, 4 or 5; bit 7: the stream has ended
    stream              2 bytes   as above
    sealed              16 bytes more than its plain text, by `sse_edge.cursor_cipher`, bound to
                                  the first byte and the stream's identity

The plain text is what follows `stream` in version 1 (version 3) or version 2 (version 4). Where it
would make version 3 longer than 128 characters, version 5 has the incarnations, counts and
partitions of all topics first, then a byte with the width of the widest offset in bits, then all
offsets in this width as one number. Twelve partitions of one or two topics fit in 128
characters while their offsets are below 2^42; of three topics below 2^40, of six below 2^30.

This module is pure. It checks bounds before an offset reaches Kafka: 2^63 kills a fetcher.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s

from sse_edge.cursor_cipher import TAG_BYTES, CursorCipher
from sse_edge.errors import ForeignCursor, InvalidCursor

VERSION = 1
VERSION_OF_MANY = 2
_SEALED_BY = 2
"""By how much the version of a sealed cursor is higher than that of its plain text."""
_VERSION_PACKED = 5
_VERSIONS_SEALED = (VERSION + _SEALED_BY, VERSION_OF_MANY + _SEALED_BY, _VERSION_PACKED)
_SEALED_PLAIN_BYTES = 77
"""The longest plain text of a sealed cursor of 128 characters."""
PARTITIONS_OF_VERSION_1 = 12
OFFSET_MAX = 2**63 - 1
CHARS_MAX = 2048
"""The longest text that is decoded; no cursor of this edge's streams is longer."""

_ENDED = 0x80
_CHECK_BYTES = 4
_STREAM_BYTES = 2
_INCARNATION_BYTES = 4
_HEAD_BYTES = 1 + _CHECK_BYTES + _STREAM_BYTES
_PARTITIONS_MAX = 4096
_VARINT_BYTES_MAX = 9
_SECRET_BYTES = 32
"""How many bytes of a secret count for a checksum."""
_DECODED_MAX = 16
_DECODED_CHARS_MAX = 256
"""Cursors of a few partitions are kept decoded; those of thousands would take much memory."""

_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class TopicPosition:
    """A connection's position in one topic."""

    incarnation: bytes
    offsets: tuple[tuple[int, int], ...]
    """Each partition with its next offset, in ascending order of partitions."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A connection's position in its stream."""

    topics: tuple[TopicPosition, ...]
    ended: bool = False
    """Whether the stream's last event has been delivered."""


@dataclass(frozen=True, slots=True)
class CursorKeys:
    """The keys by which cursors are written and read."""

    cipher: CursorCipher | None = None
    """Encrypts; without it, cursors are not encrypted."""
    ciphers: tuple[CursorCipher, ...] = ()
    """All decrypt."""
    checksums: tuple[bytes, ...] = (b"",)
    """The keys of the checksums that are accepted; the first writes them."""

    @classmethod
    def of(
        cls, secret: bytes, others: Sequence[bytes] = (), *, accepts_unsigned: bool = False
    ) -> "CursorKeys":
        """Return the keys of an edge; without a secret, of one that does not encrypt.

        Args:
            secret: the secret that encrypts.
            others: secrets whose cursors are accepted too: earlier ones, and the next one.
            accepts_unsigned: whether cursors from before there was a secret are accepted too.
        """
        accepted = tuple(map(CursorCipher, others))
        if not secret:
            return cls(ciphers=accepted)
        cipher = CursorCipher(secret)
        signed = tuple(known[:_SECRET_BYTES] for known in (secret, *others))
        checksums = (*signed, b"") if accepts_unsigned else signed
        return cls(cipher, (cipher, *accepted), checksums)


def incarnation_of(topic_id: bytes) -> bytes:
    """Return the hash of a Kafka topic id that cursors hold."""
    return blake2s(topic_id, digest_size=_INCARNATION_BYTES, person=b"incarn").digest()


class CursorCodec:
    """Encodes and decodes the cursors of one stream."""

    def __init__(
        self,
        identity: str,
        topics: int,
        secret: bytes = b"",
        prefix: str = "",
        keys: CursorKeys | None = None,
    ) -> None:
        """Bind to a stream.

        Args:
            identity: the stream's channels, entities and filter as text, the same on every node.
            topics: the number of topics that the stream reads.
            secret: the key of the checksum; only the first 32 bytes count.
            prefix: the text's beginning, for streams whose cursors name their entity.
            keys: the keys of an edge, in place of the secret.
        """
        self._prefix = prefix
        self._topics = topics
        self._keys = keys or CursorKeys(checksums=(secret[:_SECRET_BYTES],))
        self._identity = identity.encode()
        self._stream = blake2s(self._identity, digest_size=_STREAM_BYTES, person=b"stream").digest()
        self._decoded: dict[str, Cursor] = {}
        """The last texts that were decoded: a crowd that comes back at once shows few of them."""

    def encode(self, cursor: Cursor) -> str:
        """Return the text of a cursor."""
        writer = self.writer(
            [(topic.incarnation, [at for at, _ in topic.offsets]) for topic in cursor.topics]
        )
        offsets = [offset for topic in cursor.topics for _, offset in topic.offsets]
        return writer.write(offsets, ended=cursor.ended).decode()

    def writer(self, layout: Sequence[tuple[bytes, Sequence[int]]]) -> "CursorWriter":
        """Return a writer of many cursors that differ only in their offsets.

        Args:
            layout: for each topic, its incarnation and its partitions in ascending order.
        """
        prefix = self._prefix.encode()
        return CursorWriter(self._stream, self._identity, self._keys, layout, prefix)

    def decode(self, text: str) -> Cursor:
        """Return the cursor of a text.

        Raises:
            ForeignCursor: the cursor belongs to another stream.
            InvalidCursor: the text is no cursor, or was altered; the message says what is wrong.
        """
        cursor = self._decoded.get(text)
        if cursor is None:
            cursor = self._decode(text)
            if len(text) <= _DECODED_CHARS_MAX:
                if len(self._decoded) >= _DECODED_MAX:
                    self._decoded.clear()
                self._decoded[text] = cursor
        return cursor

    def _decode(self, text: str) -> Cursor:
        if not text.startswith(self._prefix):
            raise ForeignCursor(f"the cursor belongs to another stream than {self._prefix}'s")
        raw = _from_base64(text.removeprefix(self._prefix))
        if len(raw) < _HEAD_BYTES:
            raise InvalidCursor(f"the cursor ends after {len(raw)} bytes, too early for any")
        version = raw[0] & ~_ENDED
        if version in _VERSIONS_SEALED and self._keys.ciphers:
            plain = self._opened(raw)
        elif version in (VERSION, VERSION_OF_MANY):
            plain = self._checked(raw)
        else:
            known = "1 to 5" if self._keys.ciphers else "1 and 2; others need its secret"
            raise InvalidCursor(f"the cursor is of version {version}; this edge reads {known}")
        reading = _Reading(plain, 0)
        if version == _VERSION_PACKED:
            topics = _packed_positions(reading, self._topics)
        else:
            has_bases = version in (VERSION_OF_MANY, VERSION_OF_MANY + _SEALED_BY)
            topics = tuple(
                _topic_position(reading, has_base=has_bases) for _ in range(self._topics)
            )
        if not reading.at_end:
            raise InvalidCursor("bytes follow the cursor's last offset")
        return Cursor(topics, ended=bool(raw[0] & _ENDED))

    def _checked(self, raw: bytes) -> bytes:
        """Return the plain text of a cursor of version 1 or 2."""
        flags, check, rest = raw[:1], raw[1 : 1 + _CHECK_BYTES], raw[1 + _CHECK_BYTES :]
        self._refuse_foreign(rest[:_STREAM_BYTES])
        over = flags + rest + self._identity
        if all(check != _checksum(over, key) for key in self._keys.checksums):
            if check == _checksum(over, b""):
                raise InvalidCursor("the cursor is from before this edge had a secret")
            raise InvalidCursor("the cursor's checksum is wrong: it has been altered or cut")
        return rest[_STREAM_BYTES:]

    def _opened(self, raw: bytes) -> bytes:
        """Return the plain text of an encrypted cursor."""
        flags, stream, sealed = raw[:1], raw[1 : 1 + _STREAM_BYTES], raw[1 + _STREAM_BYTES :]
        self._refuse_foreign(stream)
        if len(sealed) > TAG_BYTES:
            for cipher in self._keys.ciphers:
                plain = cipher.open(sealed, flags + self._identity)
                if plain is not None:
                    return plain
        raise InvalidCursor(
            "the cursor cannot be decrypted: it has been altered or cut, or is of another secret"
        )

    def _refuse_foreign(self, stream: bytes) -> None:
        if stream != self._stream:
            raise ForeignCursor(
                "the cursor belongs to another stream: send it with the same path, entity and "
                "event filter as in the request that it came from"
            )


class CursorWriter:
    """Writes cursors of one stream over the same partitions, one after another.

    Each event of a stream has a cursor, and the cursors of two successive events differ in one
    offset. So the constant parts are prepared once, and `move` changes one of the `cells`.
    """

    def __init__(
        self,
        stream: bytes,
        identity: bytes,
        keys: CursorKeys,
        layout: Sequence[tuple[bytes, Sequence[int]]],
        prefix: bytes = b"",
    ) -> None:
        self._prefix = prefix
        self._identity = identity
        self._secret = keys.checksums[0]
        self._cipher = keys.cipher
        self._sizes = [len(numbers) for _, numbers in layout]
        has_bases = sum(self._sizes) > PARTITIONS_OF_VERSION_1
        version = VERSION_OF_MANY if has_bases else VERSION
        self._flags = bytes((version,)), bytes((version | _ENDED,))
        self._bases: list[int] | None = [0] * sum(self._sizes) if has_bases else None
        self._heads: list[bytes] = []
        """The bytes before each topic's first offset, or before its base."""
        self._befores: list[bytes] = []
        """The bytes before each offset."""
        for incarnation, numbers in layout:
            is_dense = bool(numbers) and list(numbers) == list(range(len(numbers)))
            count = varint(len(numbers)) if is_dense else b"\0" + varint(len(numbers))
            self._heads.append(incarnation + count)
            self._befores += [b"" if is_dense else varint(number) for number in numbers]
        self._stream = stream
        self._hash = _hash(self._secret)
        """A checksum of nothing yet: a copy is quicker than a new one."""
        is_one = self._sizes == [1] and self._bases is None
        self._only = stream + self._heads[0] + self._befores[0] if is_one else None
        """The bytes before the offset of the only partition; None where there are several."""

    def start(self, offsets: Sequence[int]) -> list[bytes]:
        """Return the cells of a position, for `move` and `finish`, until the next `start`.

        The cells are, in turn, the bytes before an offset and the bytes of the offset.
        """
        cells: list[bytes] = []
        if self._only is not None:
            return [self._only, varint(offsets[0]), b""]
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
        """Return the cursor of some cells."""
        flags = self._flags[ended]
        rest = b"".join(cells)
        if self._cipher is not None:
            raw = self._sealed(self._cipher, flags[0] + _SEALED_BY, rest[_STREAM_BYTES:], cells)
        else:
            check = self._hash.copy()
            check.update(flags + rest + self._identity)
            raw = flags + check.digest() + rest
        text = b2a_base64(raw, newline=False)
        return self._prefix + text.translate(_TO_URLSAFE).rstrip(b"=")

    def _sealed(self, cipher: CursorCipher, flags: int, plain: bytes, cells: list[bytes]) -> bytes:
        if len(plain) > _SEALED_PLAIN_BYTES and self._bases is None:
            packed = _packed(cells)
            if len(packed) < len(plain):
                flags, plain = flags & _ENDED | _VERSION_PACKED, packed
        head = bytes((flags,))
        return head + self._stream + cipher.seal(plain, head + self._identity)

    def write(self, offsets: Sequence[int], *, ended: bool = False) -> bytes:
        """Return the cursor of a position."""
        return self.finish(self.start(offsets), ended=ended)


def varint(value: int) -> bytes:
    """Encode a number in bytes of seven bits each, the lowest bits first."""
    assert 0 <= value <= OFFSET_MAX
    if value <= 0x7F:  # noqa: PLR2004  # seven bits
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004  # seven bits
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _hash(secret: bytes) -> blake2s:
    return blake2s(digest_size=_CHECK_BYTES, key=secret, person=b"cursor")


def _checksum(over: bytes, secret: bytes) -> bytes:
    check = _hash(secret)
    check.update(over)
    return check.digest()


def _packed(cells: list[bytes]) -> bytes:
    """Return the plain text of version 5, of the cells of a writer without bases."""
    offsets = [_Reading(cell, 0).varint("offset", OFFSET_MAX) for cell in cells[1::2]]
    width = max(offsets).bit_length()
    number = 0
    for offset in reversed(offsets):
        number = number << width | offset
    size = (width * len(offsets) + 7) // 8
    heads = b"".join(cells[::2])[_STREAM_BYTES:]
    return heads + bytes((width,)) + number.to_bytes(size, "little")


def _packed_positions(reading: "_Reading", topics: int) -> tuple[TopicPosition, ...]:
    heads = [(reading.take(_INCARNATION_BYTES), _partitions(reading)) for _ in range(topics)]
    (width,) = reading.take(1)
    number = int.from_bytes(reading.rest(), "little")
    positions = []
    for incarnation, partitions in heads:
        offsets = []
        for partition in partitions:
            offset, number = number & ((1 << width) - 1), number >> width
            if offset > OFFSET_MAX:
                raise InvalidCursor(
                    f"the cursor's offset is {offset}; at most {OFFSET_MAX} is valid"
                )
            offsets.append((partition, offset))
        positions.append(TopicPosition(incarnation, tuple(offsets)))
    if number:
        raise InvalidCursor("bytes follow the cursor's last offset")
    return tuple(positions)


def _partitions(reading: "_Reading") -> list[int]:
    """Return the partitions of a topic, whose offsets come later."""
    count = reading.varint("partition count", _PARTITIONS_MAX)
    if count:
        return list(range(count))
    count = reading.varint("partition count", _PARTITIONS_MAX)
    numbers = [reading.varint("partition", _PARTITIONS_MAX) for _ in range(count)]
    if numbers != sorted(set(numbers)):
        raise InvalidCursor("the cursor's partitions are not in ascending order")
    return numbers


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
    """A reader of bytes that raises `InvalidCursor` at their end."""

    def __init__(self, raw: bytes, at: int) -> None:
        self._raw = raw
        self._at = at

    @property
    def at_end(self) -> bool:
        return self._at == len(self._raw)

    def take(self, count: int) -> bytes:
        piece = self._raw[self._at : self._at + count]
        if len(piece) < count:
            raise InvalidCursor("the cursor ends in the middle of a topic")
        self._at += count
        return piece

    def rest(self) -> bytes:
        return self.take(len(self._raw) - self._at)

    def varint(self, name: str, at_most: int) -> int:
        value = 0
        for index in range(_VARINT_BYTES_MAX):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << (7 * index)
            if byte <= 0x7F:  # noqa: PLR2004  # the last byte of a varint
                if value > at_most:
                    raise InvalidCursor(
                        f"the cursor's {name} is {value}; at most {at_most} is valid"
                    )
                return value
        raise InvalidCursor(f"the cursor's {name} has more than 63 bits")


def _from_base64(text: str) -> bytes:
    if len(text) > CHARS_MAX:
        raise InvalidCursor(f"the cursor has {len(text)} characters; at most {CHARS_MAX} are valid")
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (Base64Error, UnicodeEncodeError, ValueError) as error:
        raise InvalidCursor(f"the cursor is no base64url text: {error}") from error
    # The decoder ignores foreign characters and stray bits, but a cursor has exactly one text.
    if urlsafe_b64encode(raw).rstrip(b"=") != text.encode():
        raise InvalidCursor("the cursor holds characters other than A-Z, a-z, 0-9, _ and -")
    return raw
