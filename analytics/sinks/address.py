"""Opens the sink of an address: `delta:/srv/lake`, `iceberg:s3://bucket/prefix`.

An address holds no secret. Keys of an object store come from the environment variables that other
programs of S3 read: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`,
`AWS_REGION`, and `AWS_ENDPOINT_URL` for a store that is not Amazon's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import cast
from urllib.parse import urlsplit

from analytics.sinks.base import Sink
from analytics.sinks.errors import InvalidAddress, MissingLibrary

_OPENERS: Mapping[str, str] = {
    "delta": "analytics.sinks.delta",
    "iceberg": "analytics.sinks.iceberg",
    "parquet": "analytics.sinks.parquet",
}
"""The module of each format, whose function `open_at` opens a place."""


@dataclass(frozen=True)
class Address:
    """A format and a place: a folder of this machine, or a prefix in a bucket."""

    format: str
    place: str

    @property
    def is_remote(self) -> bool:
        """Whether the place is in an object store."""
        return self.place.startswith("s3://")


def parse_address(text: str) -> Address:
    """Return the parts of an address.

    Raises:
        InvalidAddress: it cannot be understood, or has a secret in it.
    """
    name, colon, place = text.partition(":")
    if not colon or name not in _OPENERS:
        known = ", ".join(f"{known}:" for known in sorted(_OPENERS))
        raise InvalidAddress(f"an address of a lake begins with one of {known}, not {name!r}")
    parts = urlsplit(place)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidAddress(
            f"the address of the {name} lake has an account or a query in it; "
            "put keys into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.scheme not in {"", "s3"} or not place or (parts.scheme and not parts.netloc):
        raise InvalidAddress(
            f"{text!r} names neither a folder nor a bucket; "
            f"write {name}:/path/of/folder or {name}:s3://bucket/prefix"
        )
    return Address(name, place.rstrip("/") or "/")


def open_sink(text: str) -> Sink:
    """Return the sink of an address.

    Raises:
        InvalidAddress: the address cannot be understood.
        MissingLibrary: the extra `lake` is not installed.
    """
    address = parse_address(text)
    try:
        module = import_module(_OPENERS[address.format])
    except ModuleNotFoundError as error:
        raise MissingLibrary(
            f"a {address.format} lake needs {error.name}: install tapewire[lake]"
        ) from error
    opener = cast("Callable[[Address], Sink]", module.open_at)
    return opener(address)
