"""How long a stream's token is valid, and the challenge by which the client renews it.

Shortly before the token expires the stream asks for a fresh one, with a challenge that only the
token's owner can answer, on any node. The answer comes back through Kafka.
"""

import secrets
import time
from collections.abc import Mapping

from sse_edge.caller import NAME_BYTES, Caller, owned_id
from sse_edge.delivery.node import Lookups


class TokenRenewal:
    """The token of one connection."""

    __slots__ = ("_caller", "_challenge", "_expires_s")

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._expires_s = caller.expires_s
        self._challenge: str | None = None

    @property
    def is_challenged(self) -> bool:
        """Whether the client was asked for a fresh token that has not arrived."""
        return self._challenge is not None

    def valid_for_s(self, lookups: Lookups) -> float:
        """Return how many seconds are left, by the fresh token if it has arrived."""
        if self._challenge is not None:
            renewed_until_s = lookups.renewed_until_s(self._challenge)
            if renewed_until_s is not None:
                self._expires_s = renewed_until_s
                self._challenge = None
        return self._expires_s - time.time()

    def challenge(self, valid_for_s: float) -> Mapping[str, object]:
        """Return the data of a new challenge: where to send the fresh token, and by when."""
        self._challenge = owned_id(secrets.token_bytes(NAME_BYTES), self._caller)
        return {"url": f"/api/v1/sse/renew/{self._challenge}", "seconds": int(valid_for_s)}
