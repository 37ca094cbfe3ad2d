"""The gate: every value that is read from Kafka passes it before other code sees it.

A value is decoded, its class is compared with what its topic carries, its fields are within their
bounds, and its time is not far ahead of the log's. Whatever passes can be relied on; the rest is
`Refused`, with a reason that metrics and dead letters name. Edges, processors and workers read by
the same gate, so none of them takes what another refuses.
"""

from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints, overload

from schemas.bounds import Observed, Paced
from schemas.codec import decode
from schemas.errors import OutOfBounds, Refused, TooFarAhead, Unexpected
from schemas.events import Record
from schemas.instants import to_rfc3339

R = TypeVar("R", bound=Record)

AHEAD_US = 24 * 60 * 60 * 1_000_000
"""How far ahead of the log's time an event may be, where no setting says otherwise."""
_PACED_SINCE_US = 1_577_836_800_000_000
"""2020-01-01T00:00:00Z: numbers that grow by one a second were 0."""
_PACED_UNKNOWN = 157_766_400
"""The highest of them where the log's time is unknown, which is that of 2025-01-01."""


@overload
def admit(
    value: bytes | None, *, logged_us: int | None = None, ahead_us: float = AHEAD_US
) -> Record: ...


@overload
def admit(
    value: bytes | None, *kinds: type[R], logged_us: int | None = None, ahead_us: float = AHEAD_US
) -> R: ...


def admit(
    value: bytes | None, *kinds: type[R], logged_us: int | None = None, ahead_us: float = AHEAD_US
) -> R | Record:
    """Return the record that a value holds.

    Args:
        value: the value of a record in Kafka.
        kinds: the classes that are expected; any registered class without one.
        logged_us: when the log got it, in microseconds since 1970 UTC; 0 or less if it is unknown,
            None if it does not matter.
        ahead_us: how far ahead of that its observed times may be, in microseconds.

    Raises:
        Refused: the value is no such record, or a field is out of its bounds.
    """
    record = decode(value)
    if kinds and not isinstance(record, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise Unexpected(f"expected {expected}, found {type(record).__name__}")
    if logged_us is None:
        return record
    paced, observed = _timed_fields(type(record))
    for name in paced:
        number = getattr(record, name)
        if number > _PACED_UNKNOWN and number > (most := paced_max(logged_us)):
            raise OutOfBounds(
                f"{type(record).__name__}: {name} is {number}; it grows by at most one a second "
                f"since 2020, to {most} when the log got the record"
            )
    if logged_us > 0:
        for name in observed:
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


def paced_max(logged_us: int) -> int:
    """Return the highest number of a `Paced` field at a time of the log.

    Args:
        logged_us: microseconds since 1970 UTC; 0 or less if the time is unknown.
    """
    return max((logged_us - _PACED_SINCE_US) // 1_000_000, _PACED_UNKNOWN)


@cache
def _timed_fields(kind: type[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the fields that are paced, and of those that are observed."""
    return _fields_marked(kind, Paced), _fields_marked(kind, Observed)


def _fields_marked(kind: type[Any], mark: type[object]) -> tuple[str, ...]:
    """Return the names of the fields whose bounds have a mark."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        name
        for name, hint in hints.items()
        if any(isinstance(bound, mark) for bound in get_args(hint)[1:])
    )
