"""The caller of a request, what its token allows, and ids that only their owner can use."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from enum import StrEnum

from schemas.run_ids import Owner

NAME_BYTES = 8
_DIGEST_BYTES = 8
OWNED_ID_CHARS = 22
"""The length of 16 bytes in base 64, without padding."""


class Scope(StrEnum):
    """The scopes of tokens. Each stands for itself: `admin` includes no other."""

    READ = "read"
    """Read streams, lists and measures."""
    WRITE = "write"
    """Submit jobs, tasks, chat messages and questions to agents."""
    LIMITS = "limits"
    """Change limits and books."""
    ACK = "ack"
    """Acknowledge alerts."""
    ADMIN = "admin"
    """Operate the system."""


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a request's token."""

    subject: str
    tenant: str | None
    expires_s: float
    """When the token expires, in seconds since 1970."""
    scopes: frozenset[Scope] = ALL_SCOPES
    """The scopes that the token allows."""

    @property
    def owner(self) -> Owner:
        """The owner of what the caller requests."""
        return Owner(self.tenant, self.subject)


def tenant_of(caller: Caller | None) -> str | None:
    """Return the caller's tenant; empty for a token without one, None without a token."""
    return None if caller is None else caller.tenant or ""


def user_of(caller: Caller | None) -> str | None:
    """Return a text that only the caller's user has; None without a token."""
    return None if caller is None else caller.owner.text


def owned_id(name: bytes, owner: Caller | None) -> str:
    """Return an id that any node can check for its owner: a name, and a digest of name and owner.

    Args:
        name: 8 bytes, another for each id of the owner.
        owner: the owner; None for an id that anonymous callers share.
    """
    identity = b"" if owner is None else json.dumps([owner.tenant, owner.subject]).encode()
    digest = hashlib.blake2b(name + identity, digest_size=_DIGEST_BYTES).digest()
    return urlsafe_b64encode(name + digest).rstrip(b"=").decode()


def is_owned(id_: str, caller: Caller | None) -> bool:
    """Whether a caller owns an id."""
    try:
        name = urlsafe_b64decode(f"{id_}==")[:NAME_BYTES]
    except ValueError:
        return False
    return owned_id(name, caller) == id_
