"""Turns what fails in tables, files and queries into errors of the command line.

The libraries of tables are the extra `lake`. A command that lacks one says how it is installed.
"""

from collections.abc import Generator
from contextlib import contextmanager

from analytics.errors import AnalyticsError
from analytics.sinks.errors import LakeError
from cli.errors import AnalyticsFailed, LogFailed, NotInstalled
from kafka_io.errors import ProducerError

_LIBRARIES = ("deltalake", "duckdb", "polars", "polars_avro", "pyarrow", "pyiceberg")


@contextmanager
def tables_or_reason() -> Generator[None]:
    """Turn the failures of tables into errors of the command line.

    Raises:
        NotInstalled: a library is missing.
        AnalyticsFailed: a table, a file or a query failed.
        LogFailed: Kafka cannot be read.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        raise NotInstalled(
            f"{error.name} is not installed; `pip install 'tapewire[lake]'` installs it"
        ) from error
    except (AnalyticsError, LakeError) as error:
        raise AnalyticsFailed(str(error)) from error
    except ProducerError as error:
        raise LogFailed(str(error)) from error
    except TimeoutError as error:
        raise LogFailed("Kafka has not answered for half a minute") from error
