"""Encrypts the secrets of notification routes, which lie in the log with the routes.

Edges seal what a caller gives them, and notifiers open it, by a key that only they have. AES-SIV
(RFC 5297) binds the secrets to their route, so that nobody can move them into another one.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from pydantic import AfterValidator, SecretStr

from kafka_io.errors import Unsealed

_KEY_BYTES = 64
_SECRET_BYTES_MIN = 32


def _as_sealing_key(secret: SecretStr) -> SecretStr:
    count = len(secret.get_secret_value().encode())
    if count < _SECRET_BYTES_MIN:
        raise ValueError(
            f"it has {count} bytes; secrets need a key of at least {_SECRET_BYTES_MIN} random "
            "ones, as `openssl rand -base64 32` prints them"
        )
    return secret


SealingKey = Annotated[SecretStr, AfterValidator(_as_sealing_key)]
"""A secret of at least 32 bytes that edges and notifiers share."""


class SecretBox:
    """Seals and opens the secrets of routes."""

    def __init__(self, key: SecretStr) -> None:
        """Derive the key of the cipher."""
        secret = key.get_secret_value().encode()
        self._siv = AESSIV(blake2b(secret, digest_size=_KEY_BYTES, person=b"routes-siv").digest())

    def seal(self, secrets: Mapping[str, str], tenant: str | None, route: str) -> bytes:
        """Return secrets, by name, encrypted for one route of a tenant."""
        return self._siv.encrypt(json.dumps(dict(secrets)).encode(), [_context(tenant, route)])

    def open(self, sealed: bytes, tenant: str | None, route: str) -> Mapping[str, str]:
        """Return the secrets of a route, by name.

        Raises:
            Unsealed: they were sealed by another key or for another route, or altered.
        """
        try:
            plain = self._siv.decrypt(sealed, [_context(tenant, route)])
        except (InvalidTag, ValueError):
            raise Unsealed(
                f"the secrets of the route {route!r} were sealed by another key, or for another "
                "route; set them again, or give this notifier the edges' TAPEWIRE_NOTIFICATION_KEY"
            ) from None
        secrets: dict[str, str] = json.loads(plain)
        return secrets


def _context(tenant: str | None, route: str) -> bytes:
    return json.dumps([tenant, route]).encode()
