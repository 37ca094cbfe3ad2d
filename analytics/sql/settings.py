"""The settings of SQL."""

from typing import Annotated

from annotated_types import Ge, Le

from kafka_io.settings import Settings


class SqlSettings(Settings):
    """Read from the environment."""

    sql_memory_mib: Annotated[int, Ge(64), Le(1 << 20)] = 1024
    """The memory that DuckDB takes, in MiB. What does not fit goes to files in a temporary folder,
    which is deleted at the end."""
    sql_spill_mib: Annotated[int, Ge(0), Le(1 << 24)] = 16 * 1024
    """The most that these files take, in MiB."""
    sql_threads: Annotated[int, Ge(1), Le(256)] = 2
    """The threads that DuckDB computes with."""
