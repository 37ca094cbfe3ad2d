"""A database takes its extensions from their wheels, and S3's keys from the environment."""

from pathlib import Path

import pytest

from analytics.errors import NotInstalled, QueryFailed
from analytics.sql.database import allow_s3, check_query, connect, failures, lock, named, quoted
from analytics.sql.settings import SqlSettings

SMALL = SqlSettings(sql_memory_mib=64, sql_threads=1)


def test_every_extension_of_a_lake_is_installed(tmp_path: Path) -> None:
    extensions = ("httpfs", "avro", "delta", "iceberg")
    with connect(SMALL, tmp_path, extensions=extensions) as database:
        rows = database.execute(
            "SELECT extension_name FROM duckdb_extensions() WHERE loaded"
        ).fetchall()
        assert set(extensions) <= {name for (name,) in rows}


def test_a_missing_extension_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="extension nothing is not installed"):
        connect(SMALL, tmp_path, extensions=["nothing"])


def test_the_keys_of_s3_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "it's")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    with connect(SMALL, tmp_path, extensions=["httpfs"]) as database:
        allow_s3(database)
        ((text,),) = database.execute("SELECT secret_string FROM duckdb_secrets()").fetchall()
    assert "key_id=it's" in text
    assert "endpoint=127.0.0.1:9000" in text
    assert "use_ssl=false" in text
    assert "hidden" not in text


def test_a_locked_database_reads_files_of_its_places_alone(tmp_path: Path) -> None:
    inside, outside, spill = tmp_path / "lake", tmp_path / "other", tmp_path / "spill"
    for folder in (inside, outside, spill):
        folder.mkdir()
        (folder / "a.csv").write_text("x\n1\n")
    with connect(SMALL, spill) as database:
        lock(database, [str(inside)])
        query = "SELECT * FROM read_csv({})"
        assert database.execute(query.format(quoted(str(inside / "a.csv")))).fetchall() == [(1,)]
        with pytest.raises(QueryFailed, match="disabled"), failures():
            database.execute(query.format(quoted(str(outside / "a.csv"))))
        with pytest.raises(QueryFailed, match="locked"), failures():
            database.execute("SET threads = 4")


def test_an_explanation_reads_only_if_its_statement_does(tmp_path: Path) -> None:
    with connect(SMALL, tmp_path) as database:
        check_query(database, "EXPLAIN (FORMAT json) SELECT 1")
        with pytest.raises(QueryFailed, match="CREATE is not allowed"):
            check_query(database, "explain analyze CREATE TABLE x AS SELECT 1")


def test_names_and_texts_are_quoted() -> None:
    assert (named('a"b'), quoted("it's")) == ('"a""b"', "'it''s'")
