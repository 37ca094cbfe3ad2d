"""The ids of jobs and tasks that edges accept: UUIDs that hold their time, and their owner.

    version 7   48 bits of time, 74 random bits: requested without a token
    version 8   48 bits of time, 26 random bits, 48 bits of a digest of these and the owner

So every node knows whether a caller owns an id of version 8, whatever has been read of the log. Ids
of another form, such as those of the reporter API, are of no owner.
"""

import hashlib
import json
import secrets
import uuid
from typing import NamedTuple

_UNOWNED = 7
_OWNED = 8
_VERSION_AT = 76
_DIGEST_BITS = 48


class Owner(NamedTuple):
    """A user that owns jobs, tasks and runs; the same name in another tenant is another user."""

    tenant: str | None
    subject: str

    @property
    def text(self) -> str:
        """A text that no other owner has."""
        return json.dumps(self)


def new_id(now_us: int, owner: Owner | None = None) -> str:
    """Return a new id of a job or task.

    Args:
        now_us: the time in microseconds since 1970, which the id has in milliseconds.
        owner: who requests the job or task; None for a request without a token.
    """
    number = (now_us // 1000) << 80 | secrets.randbits(80)
    version = _UNOWNED if owner is None else _OWNED
    number = number & ~(0xF << _VERSION_AT) | version << _VERSION_AT
    number = number & ~(0x3 << 62) | 2 << 62  # the variant of RFC 9562
    if owner is not None:
        name = number >> _DIGEST_BITS
        number = name << _DIGEST_BITS | _digest(name, owner)
    return str(uuid.UUID(int=number))


def time_ms_of(run_id: str) -> int | None:
    """Return the time of an id of `new_id`; None for any other text."""
    known = _parse(run_id)
    return None if known is None else known.int >> 80


def may_follow(run_id: str, caller: Owner) -> bool:
    """Return whether an id is of no owner, or of the caller."""
    known = _parse(run_id)
    if known is None or known.version != _OWNED:
        return True
    name = known.int >> _DIGEST_BITS
    return known.int == name << _DIGEST_BITS | _digest(name, caller)


def _parse(run_id: str) -> uuid.UUID | None:
    try:
        known = uuid.UUID(run_id)
    except ValueError:
        return None
    is_ours = known.version in (_UNOWNED, _OWNED) and str(known) == run_id
    return known if is_ours else None


def _digest(name: int, owner: Owner) -> int:
    text = json.dumps([name, owner.tenant, owner.subject]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=_DIGEST_BITS // 8).digest())
