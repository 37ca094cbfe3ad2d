"""Authenticated connections of aiokafka, each replaced before the broker would end its session.

A broker with `connections.max.reauth.ms`, or one that was given a token, ends a session at a time
that it names when a client has authenticated: after that time it closes the connection at the next
request. librdkafka authenticates again on the same connection (KIP-368); aiokafka does not. So a
connection is replaced by another one some time before: requests under way end on the old one, and
new ones take the new one, with the credentials as they are then. Nothing fails, and nothing is sent
twice. A connection that cannot be replaced is used until its session ends.
"""

import asyncio
import logging
import random
import weakref
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError, StaleMetadata
from aiokafka.protocol.admin import SaslAuthenticateRequest

logger = logging.getLogger(__name__)

_REPLACED_AT = 0.7, 0.85
"""The part of a session after which a connection is replaced; drawn, so that the connections of
many clients are not replaced at once."""
_IDLE_MS = 500.0
"""How long a replaced connection stays open after its last answer."""

Options = Callable[[], Mapping[str, Any]]
"""Returns how a connection is made and authenticated, as aiokafka's options."""


class SessionConnection(AIOKafkaConnection):
    """A connection that knows how long the broker lets it stay authenticated."""

    session_s = inf
    """How long the session lasts, in seconds."""
    replaced_s = inf
    """When the connection is replaced, by the loop's clock."""
    ends_s = inf
    """When the session ends, by the loop's clock."""

    def send(self, request: Any, expect_response: bool = True) -> Any:  # noqa: FBT001, FBT002  # aiokafka's signature
        """Send a request, and return what becomes of it."""
        base: Any = super()
        sent_s = asyncio.get_running_loop().time()
        answer = base.send(request, expect_response)
        if isinstance(request, SaslAuthenticateRequest):
            return self._authenticated(answer, sent_s)
        return answer

    async def _authenticated(self, answer: Awaitable[Any], sent_s: float) -> Any:
        response = await answer
        lifetime_ms: int = getattr(response, "session_lifetime_ms", 0)
        if lifetime_ms > 0:
            self.session_s = lifetime_ms / 1000
            self.replaced_s = sent_s + random.uniform(*_REPLACED_AT) * self.session_s  # noqa: S311  # no secret
            self.ends_s = sent_s + self.session_s
        return response

    def retire(self) -> None:
        """Close the connection when its last request is answered."""
        if self._idle_handle is not None:
            self._idle_handle.cancel()
        self._max_idle_ms = _IDLE_MS
        self._on_close_cb = None  # the client has another connection
        check: Any = self._idle_check
        check(weakref.ref(self))


class Connections:
    """The connections of one aiokafka client, in place of those that it makes itself."""

    def __init__(self, client: AIOKafkaClient, options: Options) -> None:
        self._client = client
        self._options = options

    async def get(
        self,
        node_id: Any,
        *,
        group: ConnectionGroup = ConnectionGroup.DEFAULT,
        no_hint: bool = False,
    ) -> AIOKafkaConnection | None:
        """Return a connection to a broker; None if there is none and none can be made."""
        del no_hint
        where = (node_id, group)
        if (found := self._found(where)) is not None:
            return found
        try:
            async with self._client._get_conn_lock:  # noqa: SLF001  # it stands for its method
                if (found := self._found(where)) is not None:
                    return found
                made = await self._connect(node_id)
        except (OSError, TimeoutError, KafkaError) as error:
            logger.error(  # noqa: TRY400  # the error says it all
                "no connection to the broker %s can be made: %s", node_id, error
            )
            self._client.force_metadata_update()
            return self._last_resort(where)
        self._replace(where, made)
        return made

    @property
    def _conns(self) -> dict[Any, AIOKafkaConnection]:
        conns: dict[Any, AIOKafkaConnection] = self._client._conns  # noqa: SLF001  # as above
        return conns

    def _found(self, where: Any) -> AIOKafkaConnection | None:
        """Return a connection that is not to be replaced yet."""
        found = self._conns.get(where)
        if found is None or not _is_open(found):
            return None
        now_s = asyncio.get_running_loop().time()
        if isinstance(found, SessionConnection) and now_s >= found.replaced_s:
            return None
        return found

    def _last_resort(self, where: Any) -> AIOKafkaConnection | None:
        """Return a connection that should have been replaced, as long as its session lasts."""
        found = self._conns.get(where)
        if not isinstance(found, SessionConnection) or not _is_open(found):
            return None
        now_s = asyncio.get_running_loop().time()
        if now_s >= found.ends_s:
            return None
        found.replaced_s = min(found.ends_s, now_s + (found.ends_s - now_s) / 4)
        return found

    def _replace(self, where: Any, made: SessionConnection) -> None:
        old, self._conns[where] = self._conns.get(where), made
        for key in [key for key, conn in self._conns.items() if not _is_open(conn)]:
            del self._conns[key]
        if isinstance(old, SessionConnection) and _is_open(old):
            self._conns["replaced", id(old)] = old  # closed with the client at the latest
            old.retire()

    async def _connect(self, node_id: Any) -> SessionConnection:
        client: Any = self._client
        broker = client.cluster.broker_metadata(node_id)
        if broker is None:
            raise StaleMetadata(f"broker {node_id} is not in the metadata")
        new: Any = SessionConnection
        made: SessionConnection = new(
            broker.host,
            broker.port,
            client_id=client._client_id,  # noqa: SLF001  # as above
            request_timeout_ms=client._request_timeout_ms,  # noqa: SLF001  # as above
            on_close=client._on_connection_closed,  # noqa: SLF001  # as above
            max_idle_ms=client._connections_max_idle_ms,  # noqa: SLF001  # as above
            **self._options(),
        )
        await new.connect(made)
        return made


def _is_open(connection: AIOKafkaConnection) -> bool:
    untyped: Any = connection
    return bool(untyped.connected())
