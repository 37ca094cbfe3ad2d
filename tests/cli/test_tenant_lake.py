from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Span
from cli.errors import AnalyticsFailed, ErasureRefused, InvalidArgument
from cli.tenant_lake import LakeErasure, erase_in_lake, find_in_lake
from tests.support.lake_log import rows_of

LANE = Lane("numbers", "0a", 0)
ROWS = 30


@pytest.fixture(params=["delta", "iceberg"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A lake with two tables, in which each third row is of `acme`, of `blue`, and of none."""
    address = f"{request.param}:{tmp_path}/lake"
    sink = open_sink(address)
    for table in ("first", "second"):
        for begin in range(0, ROWS, 10):
            span = Span(LANE, begin, begin + 10)
            rows = rows_of([span])
            at = rows.column_names.index("_tenant")
            names = [("acme", "blue", None)[offset % 3] for offset in range(begin, begin + 10)]
            sink.append(table, rows.set_column(at, "_tenant", pa.array(names, pa.string())), [span])
    aggregates = tmp_path / "lake" / "aggregates"
    aggregates.mkdir()
    pq.write_table(pa.table({"_tenant": ["acme"]}), aggregates / "daily.parquet")
    return address


def counts(lake: str, tenant: str) -> dict[str, int]:
    return {row["table"]: row["rows"] for row in find_in_lake(lake, tenant).document["tables"]}


def tenants_on_disk(folder: Path) -> set[str | None]:
    found: set[str | None] = set()
    for path in folder.rglob("*.parquet"):
        columns = pq.read_schema(path).names
        if "_tenant" in columns:
            found.update(pq.read_table(path, columns=["_tenant"])["_tenant"].to_pylist())
    return found


def erasure(
    lake: str, keep_hours: int, confirmed: str | None = "acme", *, is_dry: bool = False
) -> LakeErasure:
    return LakeErasure(lake, "acme", confirmed, keep_hours, is_dry)


def test_an_erased_tenant_is_in_no_file_and_others_keep_their_rows(
    lake: str, tmp_path: Path
) -> None:
    assert counts(lake, "acme") == counts(lake, "blue") == {"first": 10, "second": 10}
    done = erase_in_lake(erasure(lake, 1))
    assert [row["rows"] for row in done.document["tables"]] == [10, 10]
    assert len(done.document["aggregates"]) == 1
    assert counts(lake, "acme") == {}
    assert counts(lake, "blue") == {"first": 10, "second": 10}
    # Earlier states can be read for an hour.
    assert "acme" in tenants_on_disk(tmp_path / "lake")
    assert done.document["history_until"] is not None
    assert any("--keep-hours 0" in line for line in done.lines)
    again = erase_in_lake(erasure(lake, 0))
    assert [row["rows"] for row in again.document["tables"]] == [0, 0]
    assert again.document["history_until"] is None
    assert tenants_on_disk(tmp_path / "lake") == {"blue", None}
    assert counts(lake, "blue") == {"first": 10, "second": 10}
    assert open_sink(lake).positions("first") == {LANE: ROWS}


def test_nothing_is_deleted_without_the_name_once_more(lake: str) -> None:
    for confirmed in (None, "acm"):
        with pytest.raises(ErasureRefused, match="give --confirm acme to agree"):
            erase_in_lake(erasure(lake, 1, confirmed))
    dry = erase_in_lake(erasure(lake, 1, None, is_dry=True))
    assert [row["rows"] for row in dry.document["tables"]] == [10, 10]
    assert counts(lake, "acme") == {"first": 10, "second": 10}


def test_a_tenant_without_rows_is_reported_to_have_none(lake: str) -> None:
    assert "have no rows of 'other'" in find_in_lake(lake, "other").lines[0]
    with pytest.raises(InvalidArgument, match="it must have 1 to 256"):
        find_in_lake(lake, "")


def test_an_address_that_is_none_of_a_lake_is_named() -> None:
    with pytest.raises(AnalyticsFailed, match="an address of a lake begins with one of"):
        find_in_lake("paper:/srv/lake", "acme")
