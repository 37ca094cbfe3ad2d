"""The errors of records and of the catalogue.

SchemaError
├── Refused            a record's value is not taken
│   ├── Undecodable    the bytes are not a registered record
│   ├── UnresolvedSchema  a schema registry does not say how the bytes are to be read
│   ├── TooLarge       the bytes are too many to be decoded
│   ├── Unexpected     the record is of another class than is expected there
│   ├── OutOfBounds    the value of a field is out of its bounds
│   └── TooFarAhead    a time is too far ahead of the log's
├── InvalidKey         the bytes are not the key of an id and a tenant
├── ForeignSchema      a schema of others cannot be read as one of the catalogue
├── InvalidErasures    a text does not name erased tenants
└── UnknownEvent       the class of a Python object is not registered
"""

from schemas.vocabularies import DeadLetterReason


class SchemaError(Exception):
    """A record does not fit the catalogue; the message says what is wrong, and what would fit."""


class Refused(SchemaError):
    """A record's value is not taken. `reason` is a code for metrics and dead letters."""

    reason = DeadLetterReason.INVALID


class Undecodable(Refused):
    """A record's value cannot be decoded."""

    reason = DeadLetterReason.UNDECODABLE


class UnresolvedSchema(Refused):
    """A value in Confluent framing has a schema that cannot be fetched or resolved."""

    reason = DeadLetterReason.UNRESOLVED_SCHEMA


class TooLarge(Refused):
    """A record's value exceeds the size that is decoded."""

    reason = DeadLetterReason.TOO_LARGE


class Unexpected(Refused):
    """A record is of another class than is expected in its topic."""

    reason = DeadLetterReason.UNEXPECTED_RECORD


class OutOfBounds(Refused, ValueError):
    """The value of a field is out of its bounds. `schemas.bounds` declares them."""


class TooFarAhead(Refused):
    """A time is further ahead of the record's time in the log than is allowed."""

    reason = DeadLetterReason.FUTURE


class InvalidKey(SchemaError):
    """A record's key is not that of an id and a tenant."""


class ForeignSchema(SchemaError):
    """A schema of others is malformed, or a record of it cannot be read as one of ours."""


class InvalidErasures(SchemaError):
    """A text does not name erased tenants and times; the message says which part."""


class UnknownEvent(SchemaError):
    """The class of an object that was to be written is not registered."""


class RefusedValue(bytes):
    """A value that was refused before it was decoded: the bytes as the log has them, and why.

    Readers of Kafka make it of a value in another framing whose schema they cannot resolve.
    """

    error: Refused

    @classmethod
    def of(cls, value: bytes, error: Refused) -> "RefusedValue":
        """Return a value with the error that decoding it raises."""
        made = cls(value)
        made.error = error
        return made
