"""How many connections an address, a user and a whole process may hold at once."""

import sys
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

_SPARE_SOCKETS = 16
"""Sockets that streams do not take, for short requests such as health checks."""


@dataclass(slots=True)
class SocketBudget:
    """The sockets of a process's clients, which its limit of open files bounds."""

    maximum: int = sys.maxsize
    """The most sockets that the process may hold."""
    open: int = 0
    """The sockets that it holds."""
    closing: int = 0
    """Those of them whose ended stream gives way to another stream."""
    refused: int = 0
    """The connections that were refused since there were `maximum`."""

    @property
    def has_room(self) -> bool:
        """Whether the process takes another stream."""
        return self.open - self.closing <= self.maximum - min(_SPARE_SOCKETS, self.maximum // 4)


class ReachedLimit(NamedTuple):
    """A limit that another connection would exceed, and whose connections count against it."""

    message: str
    address: str | None = None
    """The address that the limit is for; None where it is for a user."""
    user: str | None = None
    """The user that the limit is for; None where it is for an address."""

    def counts(self, address: str, user: str | None) -> bool:
        """Return whether a connection of an address and a user counts against the limit."""
        return address == self.address if self.user is None else user == self.user


class ConnectionLimits:
    """Counts open connections by address and by user, and knows the limits that are reached."""

    def __init__(self, per_address_max: int, per_user_max: int) -> None:
        self._per_address_max = per_address_max
        self._per_user_max = per_user_max
        self._per_address: Counter[str] = Counter()
        self._per_user: Counter[str] = Counter()

    def reached(self, address: str, user: str | None) -> ReachedLimit | None:
        """Return the limit that keeps an address, or a user, from another connection, if any."""
        limit = self._per_user_max
        if user is not None and self._per_user[user] >= limit:
            message = f"you hold {limit} connections; no more are allowed"
            return ReachedLimit(message, user=user)
        limit = self._per_address_max
        if self._per_address[address] >= limit:
            message = f"{address} holds {limit} connections; no more are allowed"
            return ReachedLimit(message, address=address)
        return None

    def add(self, address: str, user: str | None) -> None:
        """Count a connection that has opened."""
        self._per_address[address] += 1
        if user is not None:
            self._per_user[user] += 1

    def remove(self, address: str, user: str | None) -> None:
        """Count a connection no longer."""
        _decrement(self._per_address, address)
        if user is not None:
            _decrement(self._per_user, user)


def _decrement(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
