"""A lake in an object store keeps the promises of one in a folder."""

import time
from collections.abc import Generator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from analytics.sinks.address import open_sink
from analytics.sinks.base import Span, Tables
from analytics.sinks.errors import ForeignTable, LakeError, LakeUnavailable, Overtaken
from tests.support.lake_log import LANES, TABLE, check_rows, rows_of, write_step
from tests.support.lake_writer import context, follow, started
from tests.support.object_store import BUCKET, object_store

pytestmark = [pytest.mark.analytics, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def store() -> Generator[Mapping[str, str]]:
    with object_store() as environment:
        yield environment


@pytest.fixture(params=["delta", "iceberg"])
def address(
    request: pytest.FixtureRequest,
    store: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TAPEWIRE_LAKE_CATALOG", f"sqlite:///{tmp_path}/catalog.db")
    return f"{request.param}:s3://{BUCKET}/{tmp_path.name}"


def sink_of(address: str) -> Tables:
    return cast("Tables", open_sink(address))


def test_rows_stand_once_and_files_are_kept_up(address: str) -> None:
    sink = sink_of(address)
    assert sink.tables() == []
    for _ in range(3):
        write_step(sink, LANES, 60)
    stale = [Span(LANES[0], 120, 180)]
    with pytest.raises(Overtaken):
        sink.append(TABLE, rows_of(stale), stale)
    assert sink.tables() == [TABLE]
    assert sink.compact(TABLE).files_after == 2
    assert sink.expire(TABLE, timedelta()) >= 3
    assert sink.vacuum(TABLE, timedelta(days=1)) == []
    assert len(sink.vacuum(TABLE, timedelta())) >= 6
    assert check_rows(sink_of(address)) == 360


def test_writers_that_are_killed_lose_and_repeat_no_row(address: str) -> None:
    processes = context()
    for pause_s in (0.2, 0.5, 0.8, 1.1, 1.4):
        with (
            started(processes.Process(target=follow, args=(address, LANES))),
            started(processes.Process(target=follow, args=(address, LANES))),
        ):
            time.sleep(pause_s)  # both are killed wherever they are then
    write_step(sink_of(address), LANES, 10)
    assert check_rows(sink_of(address)) > 0


def test_a_prefix_with_other_objects_is_refused(address: str) -> None:
    other = "iceberg" if address.startswith("delta") else "delta"
    write_step(sink_of(f"{other}:{address.partition(':')[2]}"), LANES, 1)
    with pytest.raises(ForeignTable, match="choose another place"):
        write_step(sink_of(address), LANES, 1)


def test_a_bucket_that_is_not_there_is_named(address: str) -> None:
    missing = address.replace(f"//{BUCKET}/", "//elsewhere/")
    with pytest.raises(LakeError, match="elsewhere"):
        write_step(sink_of(missing), LANES, 1)


def test_a_store_that_does_not_answer_is_named_without_keys(
    address: str, store: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = sink_of(address)
    write_step(sink, LANES, 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(LakeUnavailable, match="the store of s3://") as refusal:
        sink_of(address).positions(TABLE)
    assert store["AWS_SECRET_ACCESS_KEY"] not in str(refusal.value)
