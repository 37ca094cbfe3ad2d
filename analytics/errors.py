"""Errors of tables, exports and queries.

AnalyticsError
├── UnknownTable      no table has a name
├── InvalidLake       a lake cannot be read, or its address cannot be understood
├── QueryFailed       DuckDB refused a query
├── NotInstalled      a library is missing
└── NotWritten        a file could not be written
"""


class AnalyticsError(Exception):
    """A table, an export or a query failed; the message says why, and what would be right."""


class UnknownTable(AnalyticsError):
    """No table has a name; the message names those that are near."""


class InvalidLake(AnalyticsError):
    """A lake cannot be read, or its address cannot be understood; the message says why."""


class QueryFailed(AnalyticsError):
    """DuckDB refused a query; the message is DuckDB's."""


class NotInstalled(AnalyticsError):
    """A library is missing; the message says how it is installed."""


class NotWritten(AnalyticsError):
    """A file could not be written; the message says why."""
