"""Gzip for streams: flushed at each write, and compressed once for all caught-up clients.

A deflate stream may continue with any bytes that refer to nothing before them. So a client has its
own compressor while it catches up, and its broadcast group's shared one afterwards, which forgets
its history whenever a client joins. Bytes for one client alone make that client's history differ,
so the shared compressor has to forget after them, too.

The trailer's CRC-32 covers what this client got: its own bytes and the shared ones in between. The
two are combined by the arithmetic of zlib's crc32_combine: CRC(AB) = shift(CRC(A), |B|) ^ CRC(B),
where the shift is a multiplication by x^(8|B|) modulo the polynomial of RFC 1952.
"""

import zlib
from functools import cache
from struct import pack

LEVEL = 5
"""A compromise: level 9 takes more than twice the time and saves less than 1 % of the bytes."""

GZIP_HEADERS = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_END_OF_DEFLATE = b"\x03\x00"
_POLYNOMIAL = 0xEDB88320
_X8 = 0x00800000
"""x^8 in the reflected order that CRC-32 uses."""


def takes_gzip(accepted: str) -> bool:
    """Whether a client accepts gzip, by its `Accept-Encoding` header."""
    for item in accepted.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() in ("gzip", "x-gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


class SharedGzip:
    """The compressor of a broadcast group."""

    def __init__(self) -> None:
        self._compressor: zlib._Compress | None = None
        self.crc = 0
        self.length = 0

    def forget(self) -> None:
        """Let the next bytes refer to nothing before them."""
        self._compressor = None

    def encode(self, data: bytes) -> bytes:
        """Compress, and flush to a byte boundary."""
        if self._compressor is None:
            self._compressor = _compressor()
        self.crc = zlib.crc32(data, self.crc)
        self.length += len(data)
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)


class Gzip:
    """One client's gzip stream."""

    __slots__ = ("_compressor", "_crc", "_is_begun", "_joined_crc", "_joined_length", "_length")

    def __init__(self) -> None:
        self._compressor: zlib._Compress | None = None
        self._is_begun = False
        self._crc = 0
        self._length = 0
        self._joined_crc = 0
        self._joined_length = 0

    def encode(self, data: bytes) -> bytes:
        """Compress for this client alone, and flush to a byte boundary."""
        if self._compressor is None:
            self._compressor = _compressor()
        self._crc = zlib.crc32(data, self._crc)
        self._length += len(data)
        head = b"" if self._is_begun else _HEADER
        self._is_begun = True
        return head + self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def rest(self) -> None:
        """Drop this client's own compressor, which takes about 250 kB of memory."""
        self._compressor = None

    def join(self, shared: SharedGzip) -> None:
        """Continue with the shared compressor; at least one block was encoded before."""
        shared.forget()
        self.rest()
        self._joined_crc, self._joined_length = shared.crc, shared.length

    def leave(self, shared: SharedGzip) -> None:
        """Continue with a compressor of this client's own."""
        length = shared.length - self._joined_length
        # For the bytes shared since: CRC(B) = CRC(AB) ^ shift(CRC(A), |B|).
        crc = shared.crc ^ _shifted(self._joined_crc, length)
        self._crc = _shifted(self._crc, length) ^ crc
        self._length += length

    def end(self) -> bytes:
        """Return the bytes that end the stream."""
        head = b"" if self._is_begun else _HEADER
        return head + _END_OF_DEFLATE + pack("<II", self._crc, self._length & 0xFFFFFFFF)


def _compressor() -> "zlib._Compress":
    return zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)


def _shifted(crc: int, length: int) -> int:
    """Return a CRC after `length` more zero bytes, without the inversions, which cancel out."""
    for bit in range(length.bit_length()):
        if length >> bit & 1:
            crc = _multiplied(_x8_to_the_power_of_two(bit), crc)
    return crc


@cache
def _x8_to_the_power_of_two(exponent: int) -> int:
    """Return x^(8 * 2^exponent) modulo the polynomial."""
    if exponent == 0:
        return _X8
    half = _x8_to_the_power_of_two(exponent - 1)
    return _multiplied(half, half)


def _multiplied(a: int, b: int) -> int:
    """Return a product of polynomials over GF(2), modulo CRC-32's, in reflected order."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product
