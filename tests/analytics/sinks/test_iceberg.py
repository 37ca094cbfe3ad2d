"""A table of Iceberg is written by one writer at a time, and what is none is refused."""

from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import SecretStr
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.sql import SqlCatalog, SqlCatalogBaseTable
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Transaction

from analytics.sinks.address import Address
from analytics.sinks.base import Span
from analytics.sinks.errors import (
    BrokenTable,
    ForeignTable,
    InvalidAddress,
    LakeUnavailable,
)
from analytics.sinks.iceberg import IcebergSink, open_at
from tests.support.lake_log import COLUMNS, LANES, TABLE, check_rows, rows_of, write_step

FIRST, SECOND = LANES


def opened(tmp_path: Path) -> IcebergSink:
    return open_at(Address("iceberg", str(tmp_path)))


def foreign(tmp_path: Path, **properties: str) -> None:
    """Make a table with two rows, as another program would."""
    catalog = load_catalog(
        "tapewire", type="sql", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=str(tmp_path)
    )
    catalog.create_namespace_if_not_exists("events")
    table = catalog.create_table(("events", TABLE), COLUMNS, properties=properties)
    table.append(rows_of([Span(FIRST, 0, 2)]))


def test_a_compaction_gives_up_where_others_always_commit_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = opened(tmp_path)
    for _ in range(3):
        write_step(sink, LANES, 60)

    def refuse(_: Transaction) -> None:
        raise CommitFailedException("refused")

    monkeypatch.setattr(Transaction, "commit_transaction", refuse)
    assert sink.compact(TABLE).files_before == 0
    with pytest.raises(LakeUnavailable, match="50 times"):
        write_step(sink, LANES, 1)


def test_every_snapshot_has_the_positions_of_its_rows(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    for _ in range(3):
        write_step(sink, LANES, 60)
    sink.compact(TABLE)
    state = sink._known(TABLE)  # the table itself
    for snapshot in state.snapshots():
        assert snapshot.summary is not None
        assert "tapewire.positions" in snapshot.summary.additional_properties
    assert sink.snapshot(TABLE).location == state.metadata_location


def test_a_commit_of_another_program_without_positions_keeps_them(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    write_step(sink, [FIRST], 10)
    sink._known(TABLE).delete("_offset = 3")  # as another program would
    assert sink.positions(TABLE) == {FIRST: 10}


@pytest.mark.parametrize(
    ("properties", "reason"),
    [({}, r"commit\.retry\.num-retries=0"), ({"commit.retry.num-retries": "0"}, "no snapshot has")],
)
def test_a_table_of_another_program_is_refused(
    tmp_path: Path, properties: dict[str, str], reason: str
) -> None:
    foreign(tmp_path, **properties)
    with pytest.raises(ForeignTable, match=reason):
        write_step(opened(tmp_path), [FIRST], 10)


def test_a_folder_that_the_catalogue_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / TABLE / "_delta_log").mkdir(parents=True)
    with pytest.raises(ForeignTable, match="holds _delta_log and the catalogue has no table"):
        write_step(opened(tmp_path), [FIRST], 10)


def test_torn_metadata_is_named(tmp_path: Path) -> None:
    write_step(opened(tmp_path), [FIRST], 10)
    for path in (tmp_path / TABLE / "metadata").glob("*.metadata.json"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BrokenTable, match=r"numbers at .* cannot be used"):
        opened(tmp_path).positions(TABLE)


def test_missing_metadata_is_named(tmp_path: Path) -> None:
    write_step(opened(tmp_path), [FIRST], 10)
    for path in (tmp_path / TABLE / "metadata").glob("*.metadata.json"):
        path.unlink()
    with pytest.raises(BrokenTable, match="is missing"):
        opened(tmp_path).positions(TABLE)


def test_a_catalogue_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_text("no database " * 100, encoding="utf-8")
    with pytest.raises(BrokenTable, match=r"the catalogue at .* not a database"):
        opened(tmp_path).positions(TABLE)


def test_a_lake_in_a_bucket_needs_a_catalogue() -> None:
    with pytest.raises(InvalidAddress, match="TAPEWIRE_LAKE_CATALOG"):
        open_at(Address("iceberg", "s3://bucket/lake"))


def test_the_catalogue_can_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = SecretStr(f"sqlite:///{tmp_path}/elsewhere.db")
    monkeypatch.setenv("TAPEWIRE_LAKE_CATALOG", uri.get_secret_value())
    sink = opened(tmp_path / "lake")
    assert sink.tables() == []
    write_step(sink, [FIRST], 10)
    assert (tmp_path / "elsewhere.db").exists()
    assert not (tmp_path / "lake" / "catalog.db").exists()
    assert check_rows(sink) == 10


def test_a_catalogue_that_does_not_answer_keeps_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAPEWIRE_LAKE_CATALOG", f"sqlite:///{tmp_path}/no/folder?secret=hidden")
    with pytest.raises(LakeUnavailable) as refusal:
        opened(tmp_path).positions(TABLE)
    assert "hidden" not in str(refusal.value)


def test_rows_without_a_day_are_compacted_too(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    for begin in (0, 1):
        rows = rows_of([Span(FIRST, begin, begin + 1)])
        at = rows.column_names.index("_ingested_at")
        rows = rows.set_column(at, rows.field(at), pa.nulls(1, rows.field(at).type))
        sink.append(TABLE, rows, [Span(FIRST, begin, begin + 1)])
    assert sink.compact(TABLE).files_before == 2
    assert len(sink.read(TABLE)) == 2


def test_two_writers_may_make_the_catalogue_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = opened(tmp_path), opened(tmp_path)
    create = SqlCatalog.create_tables

    def create_late(catalog: SqlCatalog) -> None:
        monkeypatch.setattr(SqlCatalog, "create_tables", create)
        write_step(fast, [FIRST], 10)
        # The slow one had found no tables.
        SqlCatalogBaseTable.metadata.create_all(catalog.engine, checkfirst=False)

    monkeypatch.setattr(SqlCatalog, "create_tables", create_late)
    assert write_step(slow, [SECOND], 5)
    assert slow.positions(TABLE) == {FIRST: 10, SECOND: 5}
