"""The gate: every value that is read from Kafka passes it before other code sees it.

A value is decoded, its class is compared with what its topic carries, its fields are within their
bounds, and its time is not far ahead of the log's. Whatever passes can be relied on; the rest is
`Refused`, with a reason that metrics and dead letters name. Edges, processors and workers read by
the same gate, so none of them takes what another refuses.
"""

from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints, overload

from schemas.bounds import Observed
from schemas.codec import decode
from schemas.errors import Refused, TooFarAhead, Unexpected
from schemas.events import Record
from schemas.instants import to_rfc3339

R = TypeVar("R", bound=Record)

AHEAD_US = 24 * 60 * 60 * 1_000_000
"""How far ahead of the log's time an event may be, where no setting says otherwise."""


@overload
def admit(value: bytes | None, *, logged_us: int = 0, ahead_us: float = AHEAD_US) -> Record: ...


@overload
def admit(
    value: bytes | None, *kinds: type[R], logged_us: int = 0, ahead_us: float = AHEAD_US
) -> R: ...


def admit(
    value: bytes | None, *kinds: type[R], logged_us: int = 0, ahead_us: float = AHEAD_US
) -> R | Record:
    """Return the record that a value holds.

    Args:
        value: the value of a record in Kafka.
        kinds: the classes that are expected; any registered class without one.
        logged_us: when the log got it, in microseconds since 1970 UTC; 0 or less if it is unknown.
        ahead_us: how far ahead of that its observed times may be, in microseconds.

    Raises:
        Refused: the value is no such record, or a field is out of its bounds.
    """
    record = decode(value)
    if kinds and not isinstance(record, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise Unexpected(f"expected {expected}, found {type(record).__name__}")
    if logged_us > 0:
        for name in _observed_times(type(record)):
            time_us = getattr(record, name)
            if time_us > logged_us + ahead_us:
                raise TooFarAhead(
                    f"{type(record).__name__}: {name} is {to_rfc3339(time_us)}; the log got it at "
                    f"{to_rfc3339(logged_us)}, and at most {ahead_us / 1e6:g} s ahead are allowed"
                )
    return record


def admit_or_none(kind: type[R], value: bytes | None) -> R | None:
    """Return the record of a class that a value holds; None if the value is refused."""
    try:
        return admit(value, kind)
    except Refused:
        return None


@cache
def _observed_times(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the fields with times that a producer has observed."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        name
        for name, hint in hints.items()
        if any(isinstance(bound, Observed) for bound in get_args(hint)[1:])
    )
