"""Encrypts cursors, so that a client reads from its ids neither offsets nor what others write.

AES-SIV (RFC 5297) is deterministic and needs no nonce: all nodes with the same secret write the
same bytes for the same position, so clients of one stream share them. It authenticates as well.
This module is pure.
"""

from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

TAG_BYTES = 16
"""By how many bytes a sealed text is longer than the plain one."""

_KEY_BYTES = 64
"""AES-256 for the tag, and for the text."""


class CursorCipher:
    """Seals and opens texts by a key that derives from a secret."""

    def __init__(self, secret: bytes) -> None:
        key = blake2b(secret, digest_size=_KEY_BYTES, person=b"cursor-siv").digest()
        self._siv = AESSIV(key)

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Return a text encrypted and bound to a context, which is needed to open it."""
        return self._siv.encrypt(plain, [context])

    def open(self, sealed: bytes, context: bytes) -> bytes | None:
        """Return the plain text; None if it was altered, or sealed otherwise."""
        try:
            return self._siv.decrypt(sealed, [context])
        except InvalidTag:
            return None
