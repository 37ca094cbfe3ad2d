"""The addresses that clients are counted by.

A host of IPv6 has a whole network of addresses, so those of one /64 count as one.
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from starlette.types import Scope

_UNKNOWN = "unknown"
_REMEMBERED = 4_096
_HOST_CHARS_MAX = 64


def address_of(scope: Scope) -> str:
    """Return what a request's client is counted by: an IPv4 address, or a /64 of IPv6."""
    return counted_as(str((scope.get("client") or (_UNKNOWN,))[0]))


def host_of(scope: Scope) -> str | None:
    """Return the address of a request's client, behind trusted proxies; None if it is unknown."""
    client = scope.get("client")
    return str(client[0])[:_HOST_CHARS_MAX] if client else None


@lru_cache(_REMEMBERED)
def counted_as(host: str) -> str:
    """Return the IPv4 address of a host, or the /64 of its IPv6 address; other texts unchanged."""
    try:
        address = ip_address(host)
    except ValueError:
        return host[:64]
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"
