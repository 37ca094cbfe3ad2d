"""The routes of all tenants, as the log has them now."""

import logging
from collections.abc import Iterable

from kafka_io.follower import Follower
from kafka_io.reader import ConsumedRecord
from schemas.errors import InvalidKey, Refused
from schemas.events import NotificationRoute
from schemas.gate import admit
from schemas.keys import decode_key
from schemas.topics import NOTIFICATION_ROUTES

logger = logging.getLogger(__name__)

Table = dict[str | None, dict[str, NotificationRoute]]
"""Routes by tenant and name."""


class RouteTable:
    """Follows the topic of routes. Each notifier has all of it."""

    def __init__(self, bootstrap_servers: str, topic_prefix: str) -> None:
        """Make an empty table; `run` reads the topic.

        Args:
            bootstrap_servers: Kafka's addresses, `host:port` with commas between.
            topic_prefix: the prefix of the system's topics.
        """
        topic = topic_prefix + NOTIFICATION_ROUTES.name
        self._follower = Follower(bootstrap_servers, topic, self.begin, self.take, self.reached_end)
        self.run = self._follower.run
        """Follows the topic until cancelled."""
        self.complete = self._follower.complete
        """Waits until the topic has been read up to its end."""
        self._shown: Table = {}
        self._taken: Table = {}
        """The routes that were read since the beginning; shown once the end was reached."""

    def find(self, name: str, tenant: str | None) -> NotificationRoute | None:
        """Return a tenant's route; None if there is none, or if it was closed."""
        route = self._shown.get(tenant, {}).get(name)
        return None if route is None or route.closed else route

    def of(self, tenant: str | None) -> Iterable[NotificationRoute]:
        """Return the routes of a tenant."""
        return tuple(self._shown.get(tenant, {}).values())

    def begin(self) -> None:
        """Read the topic from its first record; the table stays until the end is reached."""
        self._taken = {}

    def reached_end(self) -> None:
        """Show what was read."""
        self._shown = self._taken

    def take(self, record: ConsumedRecord) -> None:
        """Take a record of the topic; one that is no route is passed over."""
        try:
            name, tenant = decode_key(record.key or b"")
        except InvalidKey:
            return
        if record.value is None:
            self._taken.get(tenant, {}).pop(name, None)
            return
        try:
            route = admit(record.value, NotificationRoute)
        except Refused as error:
            logger.warning("a route %r is passed over: %s", name[:80], error)
            return
        if route.name == name:
            self._taken.setdefault(tenant, {})[name] = route
