"""Bounds the sockets of each address that serve no stream.

Such a socket is idle between two requests, waits for the rest of a request, or for its answer. Most
clients hold a few. An address that opens more than it may loses those that have been idle longest,
and gets no new one where none is idle. Streams have limits of their own.
"""

import sys
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Protocol

_LEAST = 64
"""Some browsers of one address, with six sockets each."""


class AddressSocket(Protocol):
    """A socket that serves no stream."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        ...

    def close_idle(self) -> None:
        """Close the socket at once."""
        ...


class AddressSockets:
    """The sockets without a stream of all clients, by address."""

    def __init__(self) -> None:
        self.maximum = sys.maxsize
        """The most sockets without a stream of one address."""
        self.closed = 0
        """How many sockets were closed or refused, since their address had too many."""
        self._proxies: Sequence[IPv4Network | IPv6Network] = ()
        self._sockets: dict[str, dict[AddressSocket, None]] = {}
        """By address, its sockets; those that were used last are last."""

    def bound(self, streams_max: int, proxies: Sequence[str] = ()) -> None:
        """Set how many sockets an address may have: as many as streams, and not too few.

        Proxies have any number.
        """
        self.maximum = max(_LEAST, streams_max)
        self._proxies = [ip_network(text, strict=False) for text in proxies]

    def is_proxy(self, host: str) -> bool:
        """Return whether a host is a proxy, whose sockets are those of many clients."""
        if not self._proxies:
            return False
        try:
            address = ip_address(host)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._proxies)

    def add(self, address: str, socket: AddressSocket) -> bool:
        """Count a new socket, and return whether its address may have it."""
        sockets = self._sockets.setdefault(address, {})
        while len(sockets) >= self.maximum:
            self.closed += 1
            idle = next((held for held in sockets if held.is_idle), None)
            if idle is None:
                return False
            del sockets[idle]
            idle.close_idle()
        sockets[socket] = None
        return True

    def used(self, address: str, socket: AddressSocket) -> None:
        """Note that a socket has just served a request."""
        sockets = self._sockets.get(address, {})
        if socket in sockets:
            del sockets[socket]
            sockets[socket] = None

    def remove(self, address: str, socket: AddressSocket) -> None:
        """Count a socket no longer; do nothing if it is not counted."""
        sockets = self._sockets.get(address)
        if sockets is None:
            return
        sockets.pop(socket, None)
        if not sockets:
            del self._sockets[address]
