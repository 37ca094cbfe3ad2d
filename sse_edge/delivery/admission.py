"""How many connections an address and a user may hold at once on one node."""

from collections import Counter

from sse_edge.errors import TooManyConnections


class ConnectionLimits:
    """Counts open connections by address and by user, and refuses those over a limit."""

    def __init__(self, per_address_max: int, per_user_max: int) -> None:
        self._per_address_max = per_address_max
        self._per_user_max = per_user_max
        self._per_address: Counter[str] = Counter()
        self._per_user: Counter[str] = Counter()

    def check(self, address: str, subject: str | None) -> None:
        """Return if an address, and a user where there is one, may open another connection.

        Raises:
            TooManyConnections: the address or the user holds as many as it may.
        """
        limit = self._per_user_max
        if subject is not None and self._per_user[subject] >= limit:
            raise TooManyConnections(f"you hold {limit} connections; no more are allowed")
        limit = self._per_address_max
        if self._per_address[address] >= limit:
            raise TooManyConnections(f"{address} holds {limit} connections; no more are allowed")

    def add(self, address: str, subject: str | None) -> None:
        """Count a connection that has opened."""
        self._per_address[address] += 1
        if subject is not None:
            self._per_user[subject] += 1

    def remove(self, address: str, subject: str | None) -> None:
        """Count a connection no longer."""
        _decrement(self._per_address, address)
        if subject is not None:
            _decrement(self._per_user, subject)


def _decrement(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
