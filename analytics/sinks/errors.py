"""Errors of tables in a lake.

LakeError
├── InvalidAddress      an address of a lake cannot be understood
├── MissingLibrary      the libraries of a format are not installed
├── UnknownTable        there is no table of a name
├── ForeignTable        the folder or table was made by another program
├── BrokenTable         the files of a table cannot be read
├── TypeChanged         a column has a type that its table cannot hold
├── LakeUnavailable     the store of the files or the catalogue does not answer, or refuses
└── Overtaken           another writer has written the rows already
"""

from typing import TYPE_CHECKING

from analytics.errors import AnalyticsError

if TYPE_CHECKING:
    from analytics.sinks.base import Lane


class LakeError(AnalyticsError):
    """A table could not be read or written; the message says why, and what to change."""


class InvalidAddress(LakeError):
    """An address of a lake cannot be understood; the message says how they look."""


class MissingLibrary(LakeError):
    """The libraries of a format are not installed; the message says which extra has them."""


class UnknownTable(LakeError):
    """There is no table of this name in the lake."""


class ForeignTable(LakeError):
    """Another program made what is at the table's place; the message says what is missing."""


class BrokenTable(LakeError):
    """The files of a table are incomplete or malformed."""


class TypeChanged(LakeError):
    """A column of the rows has a type that the table's column cannot hold."""


class LakeUnavailable(LakeError):
    """The store or the catalogue does not answer or refuses; the message has its reason."""


class Overtaken(LakeError):
    """Another writer has moved a lane of a table.

    Attributes:
        table: the name of the table.
        lane: the lane whose next offset is not what the writer expected.
    """

    def __init__(self, table: str, lane: "Lane") -> None:
        super().__init__(
            f"another writer has moved the table {table} at partition {lane.partition} of "
            f"{lane.topic}; read the table's positions again, and go on from there"
        )
        self.table = table
        self.lane = lane
