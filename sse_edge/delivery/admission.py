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
        return user == self.user and (user is not None or address == self.address)


class Slot:
    """A place for one connection, which counts against a limit until it is released.

    It is taken when the limit is checked, and not when the connection begins: of many requests at
    once, each sees the places of those before it.
    """

    __slots__ = ("_limits", "address", "user")

    def __init__(self, limits: "ConnectionLimits", address: str, user: str | None) -> None:
        self._limits: ConnectionLimits | None = limits
        self.address = address
        self.user = user

    def release(self) -> None:
        """Count the place no longer; do nothing if that was done before."""
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.remove(self.address, self.user)


class ConnectionLimits:
    """Counts connections, and knows the limits that are reached.

    Those of a user count by user, from wherever it comes, and all others by address.
    """

    def __init__(self, per_address_max: int, per_user_max: int) -> None:
        self._per_address_max = per_address_max
        self._per_user_max = per_user_max
        self._per_address: Counter[str] = Counter()
        self._per_user: Counter[str] = Counter()

    def reached(self, address: str, user: str | None) -> ReachedLimit | None:
        """Return the limit that keeps an address, or a user, from another connection, if any."""
        if user is not None:
            limit = self._per_user_max
            if self._per_user[user] < limit:
                return None
            return ReachedLimit(f"you hold {limit} connections; no more are allowed", user=user)
        limit = self._per_address_max
        if self._per_address[address] < limit:
            return None
        message = f"{address} holds {limit} connections; no more are allowed"
        return ReachedLimit(message, address=address)

    def take(self, address: str, user: str | None) -> Slot:
        """Count another connection, and return its place."""
        if user is None:
            self._per_address[address] += 1
        else:
            self._per_user[user] += 1
        return Slot(self, address, user)

    def remove(self, address: str, user: str | None) -> None:
        """Count a connection no longer."""
        if user is None:
            _decrement(self._per_address, address)
        else:
            _decrement(self._per_user, user)


def _decrement(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
