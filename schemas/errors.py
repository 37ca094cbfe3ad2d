"""What can be wrong with a record.

SchemaError
├── Undecodable      the bytes are not a record that this catalogue knows
│   └── TooLarge     ... and are not even looked at
└── UnknownEvent     a Python object that no topic carries
"""


class SchemaError(Exception):
    """Something does not fit the catalogue; the message names what, and what would fit."""


class Undecodable(SchemaError):
    """A record's value cannot be read. `reason` is a short word for metrics and dead letters."""

    reason = "undecodable"


class TooLarge(Undecodable):
    """A record's value is larger than a reader is ready to decode."""

    reason = "too_large"


class UnknownEvent(SchemaError):
    """An object was to be written that no topic of the catalogue carries."""
