"""A database of DuckDB that reads tables, and lets a query change nothing.

Extensions come with their wheels; nothing is fetched. A query is a single statement that returns
rows. It reads no files but those of the lake, and its memory is bounded.
"""

import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa

from analytics.errors import NotInstalled, QueryFailed
from analytics.sql.settings import SqlSettings

_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?(\s*\([^)]*\))?\s", re.IGNORECASE)
_SECRET = "CREATE SECRET (TYPE s3, PROVIDER config, {})"  # noqa: S105  # the text around it


def connect(
    settings: SqlSettings,
    folder: Path,
    *,
    extensions: Sequence[str] = (),
    path: Path | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open a database.

    Args:
        settings: its bounds.
        folder: an empty folder, for what does not fit into memory.
        extensions: the extensions that it needs.
        path: the database's file; None keeps the database in memory.

    Raises:
        NotInstalled: the wheel of an extension is missing.
    """
    config: dict[str, Any] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": f"{settings.sql_memory_mib}MiB",
        "max_temp_directory_size": f"{settings.sql_spill_mib}MiB",
        "temp_directory": str(folder),
        "extension_directory": str(folder),
        "threads": settings.sql_threads,
        "preserve_insertion_order": False,
        "python_enable_replacements": False,
    }
    found = duckdb.connect(":memory:" if path is None else str(path), config=config)
    found.execute("SET TimeZone = 'UTC'")
    for extension in extensions:
        found.execute(f"LOAD {quoted(str(_extension_file(extension)))}")
    return found


def lock(database: duckdb.DuckDBPyConnection, places: Sequence[str]) -> None:
    """Let queries read files at some places only, and change no setting."""
    database.execute(f"SET allowed_directories = [{', '.join(map(quoted, places))}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


def allow_s3(database: duckdb.DuckDBPyConnection) -> None:
    """Give a database the keys of S3 in the environment."""
    names = {
        "KEY_ID": "AWS_ACCESS_KEY_ID",
        "SECRET": "AWS_SECRET_ACCESS_KEY",
        "SESSION_TOKEN": "AWS_SESSION_TOKEN",
    }
    values = {
        name: os.environ[variable] for name, variable in names.items() if variable in os.environ
    }
    values["REGION"] = (
        os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    )
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    texts = [f"{name} {quoted(value)}" for name, value in values.items()]
    if endpoint:
        parts = urlsplit(endpoint)
        is_secure = parts.scheme == "https"
        texts += [f"ENDPOINT {quoted(parts.netloc)}", f"USE_SSL {is_secure}", "URL_STYLE 'path'"]
    database.execute(_SECRET.format(", ".join(texts)))


def check_query(database: duckdb.DuckDBPyConnection, query: str) -> None:
    """Check that a query is a single statement that only reads.

    Raises:
        QueryFailed: it is none; the message says why.
    """
    with failures():
        statements = database.extract_statements(query)
    if len(statements) != 1:
        raise QueryFailed(f"write one statement, not {len(statements)}")
    kind = statements[0].type
    explained = _EXPLAIN.match(query)
    if kind == duckdb.StatementType.EXPLAIN and explained is not None:
        check_query(database, query[explained.end() :])
        return
    if kind != duckdb.StatementType.SELECT:
        raise QueryFailed(
            f"a query reads only; {kind.name} is not allowed. Write SELECT, WITH, FROM, DESCRIBE, "
            "SUMMARIZE, SHOW or EXPLAIN"
        )


@contextmanager
def failures() -> Generator[None]:
    """Turn errors of DuckDB into errors of queries, with DuckDB's own text.

    Raises:
        QueryFailed: DuckDB refused a query.
    """
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise QueryFailed(
            f"the query needs more memory than TAPEWIRE_SQL_MEMORY_MIB and TAPEWIRE_SQL_SPILL_MIB "
            f"allow: {str(error).strip()}"
        ) from error
    except (duckdb.Error, pa.ArrowException) as error:
        raise QueryFailed(str(error).strip()) from error


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def named(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _extension_file(name: str) -> Path:
    spec = find_spec(f"duckdb_extension_{name}")
    if spec is None or spec.origin is None:
        raise NotInstalled(
            f"DuckDB's extension {name} is not installed; "
            "`pip install 'tapewire[lake]'` installs it"
        )
    version = f"v{duckdb.__version__}"
    path = Path(spec.origin).parent / "extensions" / version / f"{name}.duckdb_extension"
    if not path.exists():
        raise NotInstalled(
            f"DuckDB is {duckdb.__version__}, and its extension {name} is of another version; "
            "`pip install 'tapewire[lake]'` installs both"
        )
    return path
