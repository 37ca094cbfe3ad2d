"""What a newer writer writes for readers of an earlier release."""

from collections.abc import Iterator
from typing import get_args

import pytest

from kafka_io.settings import ProducerSettings, Release
from schemas import codec
from schemas.codec import decode, encode, record_names, versions, write_as
from schemas.events import RiskAlert, TrainingProgress
from schemas.releases import RELEASES
from tests.support.edge import alert
from tests.support.release_log import ReleaseLog


@pytest.fixture(autouse=True)
def newest_afterwards() -> Iterator[None]:
    yield
    write_as(None)


def mark_of(value: bytes) -> bytes:
    return value[2:10]


def mark_of_version(name: str, version: int) -> bytes:
    return codec._fingerprint(versions(name)[version - 1])


def test_the_setting_names_the_releases_that_are_known() -> None:
    assert set(get_args(Release)) == set(RELEASES)
    assert ProducerSettings().write_as_release is None


def test_the_versions_of_a_release_exist() -> None:
    for of_release in RELEASES.values():
        assert of_release.keys() <= set(record_names())
        for name, version in of_release.items():
            assert 1 <= version <= len(versions(name))


def test_the_log_of_0_1_0_has_the_versions_of_0_1_0() -> None:
    marks = {mark_of_version(name, version): name for name, version in RELEASES["0.1.0"].items()}
    for record in ReleaseLog("log_0_1_0").records:
        assert not record.value or mark_of(record.value) in marks


@pytest.mark.parametrize("name", ["RiskAlert", "TrainingProgress"])
def test_an_earlier_version_is_written_until_the_flip(name: str) -> None:
    record = {
        "RiskAlert": decode(alert("p", 1)),
        "TrainingProgress": TrainingProgress(
            task_id="t", progress=1.0, status="running", message="", metrics={}, event_time_us=7
        ),
    }[name]
    newest = encode(record)
    write_as("0.1.0")
    earlier = encode(record)
    assert mark_of(earlier) == mark_of_version(name, RELEASES["0.1.0"][name])
    assert mark_of(newest) == mark_of_version(name, len(versions(name)))
    read = decode(earlier)
    assert isinstance(read, RiskAlert | TrainingProgress)
    assert isinstance(record, RiskAlert | TrainingProgress)
    assert read.event_time_us == record.event_time_us
    write_as(None)
    assert encode(record) == newest


def test_all_that_0_1_0_has_written_can_be_written_again_as_it_was() -> None:
    write_as("0.1.0")
    values = [record.value for record in ReleaseLog("log_0_1_0").records if record.value]
    assert [mark_of(encode(decode(value))) for value in values] == [*map(mark_of, values)]
