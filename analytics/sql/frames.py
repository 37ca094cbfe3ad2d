"""The views of SQL for programs and notebooks, as frames of Arrow, polars or pandas.

from analytics.sql.frames import connect

with connect(lake="delta:/srv/lake") as tables:
    alerts = tables.polars("SELECT * FROM risk_alert")
"""

import asyncio
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from analytics.errors import InvalidLake
from analytics.log_rows import KafkaLog
from analytics.sql.lakes import open_lake
from analytics.sql.session import Session
from kafka_io.settings import ProducerSettings

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


def connect(
    lake: str | None = None,
    kafka: str | None = None,
    *,
    topic_prefix: str | None = None,
    tenant: str | None = None,
    as_of_ms: int | None = None,
) -> "Tables":
    """Return the views over a lake, a log, or both.

    Args:
        lake: the lake's address; by default that of TAPEWIRE_LAKE.
        kafka: the addresses of brokers, `host:port` with commas between; by default those of
            KAFKA_BOOTSTRAP_SERVERS. Without either, the lake is read alone.
        topic_prefix: the prefix of the topics; by default that of TAPEWIRE_TOPIC_PREFIX.
        tenant: whose rows are shown; empty for those of no tenant, None for all.
        as_of_ms: rows that the log got later are left out; milliseconds since 1970 UTC.

    Raises:
        InvalidLake: neither a lake nor a Kafka is named.
        LakeError: the lake's address cannot be understood.
    """
    lake = lake or os.environ.get("TAPEWIRE_LAKE")
    kafka = kafka or os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if lake is None and kafka is None:
        raise InvalidLake("name a lake by TAPEWIRE_LAKE, or a Kafka by KAFKA_BOOTSTRAP_SERVERS")
    log = None
    if kafka is not None:
        settings = ProducerSettings(bootstrap_servers=kafka)
        if topic_prefix is not None:
            settings = ProducerSettings(bootstrap_servers=kafka, topic_prefix=topic_prefix)
        log = KafkaLog(settings)
    held = None if lake is None else open_lake(lake)
    return Tables(Session(log, held, as_of_ms=as_of_ms, tenant=tenant))


class Tables:
    """The views, which also work where an event loop runs already, as in a notebook."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._thread = ThreadPoolExecutor(1, "tapewire-sql")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the views, and delete their temporary files."""
        self._thread.shutdown()
        self._session.close()

    def refresh(self) -> None:
        """Read the lake and the log anew at the next query."""
        self._session.refresh()

    def arrow(self, query: str) -> pa.Table:
        """Return the rows of a query.

        Raises:
            QueryFailed: the query is wrong, does not only read, or needs too much memory.
        """
        self._run(self._session.prepare(query))
        answer = self._session.execute(query)
        return pa.Table.from_batches(answer.batches(), answer.schema)

    def polars(self, query: str) -> "pl.DataFrame":
        """Return the rows of a query as a frame of polars."""
        import polars as pl  # noqa: PLC0415  # others do without it

        frame = pl.from_arrow(self.arrow(query))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def pandas(self, query: str) -> "pd.DataFrame":
        """Return the rows of a query as a frame of pandas, which must be installed."""
        return self.arrow(query).to_pandas()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._thread.submit(asyncio.run, coroutine).result()
