"""The errors of records and of the catalogue.

SchemaError
├── Undecodable      the bytes are not a registered record
│   └── TooLarge     the bytes are too many to be decoded
├── InvalidKey       the bytes are not the key of an id and a tenant
└── UnknownEvent     the class of a Python object is not registered
"""

from schemas.vocabularies import DeadLetterReason


class SchemaError(Exception):
    """A record does not fit the catalogue; the message says what is wrong, and what would fit."""


class Undecodable(SchemaError):
    """A record's value cannot be decoded. `reason` is a code for metrics and dead letters."""

    reason = DeadLetterReason.UNDECODABLE


class TooLarge(Undecodable):
    """A record's value exceeds the size that is decoded."""

    reason = DeadLetterReason.TOO_LARGE


class InvalidKey(SchemaError):
    """A record's key is not that of an id and a tenant."""


class UnknownEvent(SchemaError):
    """The class of an object that was to be written is not registered."""
