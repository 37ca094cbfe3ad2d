"""Finds the file of a lake that cannot be read: DuckDB does not always name it.

A damaged footer or page fails a query with the reader's own words, such as "Variable-length int
over 10 bytes". So after such a failure the files of the query's tables are read one by one, their
footers first.
"""

import time
from collections.abc import Sequence

import duckdb

from analytics.errors import QueryFailed
from analytics.sql.database import quoted

_SEARCH_S = 30.0
"""How long a search for a broken file may take; a large lake is not read as a whole for it."""
_OF_QUERIES = (
    duckdb.ProgrammingError,  # names, syntax and types of arguments
    duckdb.DataError,  # casts and bounds of values
    duckdb.NotSupportedError,
    duckdb.InterruptException,
    duckdb.OutOfMemoryException,
    duckdb.HTTPException,
    duckdb.PermissionException,
)
"""Failures that come of the query or of a store, and not of a file."""


def may_be_of_a_file(error: BaseException | None) -> bool:
    """Return whether a failure of DuckDB may come of a file that is broken."""
    if isinstance(error, duckdb.InvalidInputException):
        return True
    return isinstance(error, duckdb.Error) and not isinstance(error, _OF_QUERIES)


def named_file(
    database: duckdb.DuckDBPyConnection, files: Sequence[str], within_s: float = _SEARCH_S
) -> QueryFailed | None:
    """Return an error that names the first file that cannot be read; None if none was found.

    Args:
        database: a database that may read the files.
        files: the paths or addresses of Parquet files.
        within_s: when the search is given up, in seconds.
    """
    until_s = time.monotonic() + within_s
    for query in ("SELECT * FROM parquet_file_metadata({})", "SELECT * FROM read_parquet({})"):
        for path in files:
            if time.monotonic() > until_s:
                return None
            try:
                reader = database.execute(query.format(quoted(path))).to_arrow_reader(10_000)
                for _ in reader:
                    pass
            except (duckdb.Error, OSError) as error:
                reason = str(error).partition("\n")[0].strip(" .:")
                return QueryFailed(
                    f"{path} is broken: {reason}. Restore the file, or write the table anew in "
                    "another lake by `tapewire lake run`"
                )
    return None
