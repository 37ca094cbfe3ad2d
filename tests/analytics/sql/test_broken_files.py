"""A broken file of a lake is named; a query that fails by itself is not blamed on a file."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.sql.broken_files import may_be_of_a_file, named_file


def test_the_first_broken_file_is_named_and_whole_ones_are_not(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for path in paths:
        pq.write_table(pa.table({"number": range(1_000)}), path)
    files = [str(path) for path in paths]
    with duckdb.connect() as database:
        assert named_file(database, files) is None
        paths[1].write_bytes(paths[1].read_bytes()[:-30])
        found = named_file(database, files)
        assert str(found).startswith(f"{paths[1]} is broken: ")
        assert "tapewire lake run" in str(found)
        assert named_file(database, files, within_s=-1) is None


@pytest.mark.parametrize(
    ("query", "is_of_a_file"),
    [
        ("SELEC", False),
        ("SELECT nothing", False),
        ("SELECT 'x'::INT", False),
        ("FROM read_parquet('{}/a.parquet')", True),
    ],
)
def test_failures_of_queries_are_none_of_files(
    query: str,
    is_of_a_file: bool,  # noqa: FBT001  # a parameter
    tmp_path: Path,
) -> None:
    (tmp_path / "a.parquet").write_text("no Parquet")
    with duckdb.connect() as database, pytest.raises(duckdb.Error) as failed:
        database.execute(query.format(tmp_path)).fetchall()
    assert may_be_of_a_file(failed.value) is is_of_a_file
