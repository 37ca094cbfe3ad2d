"""Who sent a request, and ids that only their owner can use."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

NAME_BYTES = 8
_DIGEST_BYTES = 8
OWNED_ID_CHARS = 22
"""What 16 bytes are in base 64."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token it is."""

    subject: str
    tenant: str | None
    expires_s: float
    """Until when the token is good, in seconds since 1970."""


def owned_id(name: bytes, owner: Caller | None) -> str:
    """An id that says whose it is, on any node, to whoever compares: a name, and a digest of both.

    Args:
        name: 8 bytes, which tell it from the owner's others.
        owner: whose it is; None for nobody's.
    """
    who = b"" if owner is None else json.dumps([owner.tenant, owner.subject]).encode()
    digest = hashlib.blake2b(name + who, digest_size=_DIGEST_BYTES).digest()
    return urlsafe_b64encode(name + digest).rstrip(b"=").decode()


def is_owned(id_: str, caller: Caller | None) -> bool:
    """Whether an id is the caller's."""
    try:
        name = urlsafe_b64decode(f"{id_}==")[:NAME_BYTES]
    except ValueError:
        return False
    return owned_id(name, caller) == id_
