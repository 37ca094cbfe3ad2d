"""A file of rows holds all of them in each form, and has its name only when it is whole."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.ipc
import pyarrow.parquet as pa_parquet
import pytest

from analytics.errors import NotWritten
from analytics.table_files import Format, open_writer

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("value", pa.float64()),
        ("at", pa.timestamp("us", "UTC")),
        ("tags", pa.map_(pa.string(), pa.int64())),
        ("part", pa.struct([("x", pa.list_(pa.float64()))])),
        ("raw", pa.binary()),
    ]
)
AT = datetime(2008, 10, 10, tzinfo=UTC)
ROWS = pa.RecordBatch.from_pylist(
    [
        {
            "name": 'a "b", ü',
            "value": 0.5,
            "at": AT,
            "tags": [("k", 1)],
            "part": {"x": [1.0, float("nan")]},
            "raw": b"\x00\x01",
        },
        {"name": None},
    ],
    SCHEMA,
)
PLAIN = {
    "name": 'a "b", ü',
    "value": 0.5,
    "at": "2008-10-10T00:00:00Z",
    "tags": {"k": 1},
    "part": {"x": [1.0, None]},
    "raw": "AAE=",
}


def written(path: Path, form: Format) -> Path:
    with open_writer(path, form, SCHEMA) as writer:
        writer.write(ROWS)
        assert not path.exists()
    return path


def test_parquet_and_arrow_hold_the_rows_as_they_are(tmp_path: Path) -> None:
    assert pa_parquet.read_table(written(tmp_path / "a.parquet", Format.PARQUET)).schema == SCHEMA
    with pa.ipc.open_file(written(tmp_path / "a.arrow", Format.ARROW)) as reader:
        found = reader.read_all()
    assert found.schema == SCHEMA
    assert found.column("name").to_pylist() == ['a "b", ü', None]


def test_csv_holds_nested_columns_as_json(tmp_path: Path) -> None:
    found = pa_csv.read_csv(
        written(tmp_path / "a.csv", Format.CSV),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(("at", "tags", "part", "raw"), pa.string())
        ),
    ).to_pylist()
    assert found[0]["name"] == PLAIN["name"]
    assert (found[0]["at"], found[0]["raw"]) == (PLAIN["at"], PLAIN["raw"])
    assert json.loads(found[0]["part"]) == PLAIN["part"]
    assert json.loads(found[0]["tags"]) == PLAIN["tags"]
    assert not any(found[1].values())


def test_ndjson_holds_a_row_a_line(tmp_path: Path) -> None:
    lines = written(tmp_path / "a.ndjson", Format.NDJSON).read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [PLAIN, dict.fromkeys(SCHEMA.names)]


def test_json_is_an_array_also_without_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", Format.JSON)
    assert json.loads(path.read_text("utf-8")) == [PLAIN, dict.fromkeys(SCHEMA.names)]
    with open_writer(path, Format.JSON, SCHEMA):
        pass
    assert json.loads(path.read_text("utf-8")) == []


def test_a_file_that_fails_leaves_the_former_one_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("former")

    def fail() -> None:
        with open_writer(path, Format.CSV, SCHEMA) as writer:
            writer.write(ROWS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.csv"
    with (
        pytest.raises(NotWritten, match=r"a\.csv cannot be written: No such file or directory"),
        open_writer(path, Format.CSV, SCHEMA),
    ):
        pass


def test_the_standard_output_takes_arrows_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdout:
        buffer = io.BytesIO()

    monkeypatch.setattr("sys.stdout", Stdout)
    with open_writer(None, Format.ARROW, SCHEMA) as writer:
        writer.write(ROWS)
    with pa.ipc.open_stream(Stdout.buffer.getvalue()) as reader:
        assert reader.read_all().num_rows == ROWS.num_rows
