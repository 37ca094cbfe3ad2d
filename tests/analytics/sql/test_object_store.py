"""A lake in a bucket is read by SQL, and its aggregates are kept there."""

import os
from collections.abc import Generator
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from analytics.aggregate_keeper import Keeper
from analytics.columns import schema_of
from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Span
from analytics.sql.lakes import open_lake
from analytics.sql.session import Session
from schemas.events import RiskAlert
from tests.support.object_store import BUCKET, object_store

LANE = Lane("risk.alerts", "e", 0)


@pytest.fixture(scope="module")
def _store() -> Generator[None]:
    with object_store() as environment, pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setitem(os.environ, name, value)
        yield


def add_alert(address: str, offset: int) -> None:
    row = {
        "alert_id": f"a{offset}",
        "transition_id": f"t{offset}",
        "state": "raised",
        "entity_type": "portfolio",
        "entity_id": "p",
        "event_time_us": datetime(2008, 10, 10, tzinfo=UTC),
        "_topic": LANE.topic,
        "_epoch": LANE.epoch,
        "_partition": LANE.partition,
        "_offset": offset,
        "_ingested_at": datetime(2026, 11, 30, tzinfo=UTC),
    }
    rows = pa.Table.from_pylist([row], schema_of(RiskAlert))
    open_sink(address).append("risk_alert", rows, [Span(LANE, offset, offset + 1)])


@pytest.mark.analytics
@pytest.mark.usefixtures("_store")
async def test_a_lake_in_a_bucket_is_read_and_summarised() -> None:
    address = f"delta:s3://{BUCKET}/sql"
    add_alert(address, 0)
    with Keeper(open_lake(address)) as keeper:
        assert [step.name for step in keeper.step()] == ["daily_risk", "alert_statistics"]
        assert keeper.step() == []
        add_alert(address, 1)
        assert keeper.step() == [("daily_risk", 1, 1), ("alert_statistics", 2, 1)]
    with Session(None, open_lake(address)) as session:
        answer = await session.query("SELECT alert_id FROM risk_alert ORDER BY ALL")
        assert [rows.to_pydict() for rows in answer.batches()] == [{"alert_id": ["a0", "a1"]}]
        kept = f"read_parquet('s3://{BUCKET}/sql/aggregates/alert_statistics.parquet')"
        answer = await session.query(f"SELECT count(*) AS n FROM {kept}")
        assert [rows.to_pydict() for rows in answer.batches()] == [{"n": [2]}]
