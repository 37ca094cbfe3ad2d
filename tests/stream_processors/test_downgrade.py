"""What is written so that processors of 0.1.0 can take over; `make infra-test` lets them do it."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import pytest

from schemas.events import Record
from schemas.topics import PARTITIONS, PROCESSOR_POSITIONS, Topic
from stream_processors import downgrade
from stream_processors.downgrade import end_states_with_rows, main
from stream_processors.errors import DowngradeRefused
from stream_processors.growths import Growths
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import processors_of
from tests.support.fake_group import total_row

SETTINGS = ProcessorSettings(topic_prefix="p.", write_as_release="0.1.0")
ROW = total_row("a", 1, 0)


class Kafka:
    """A cluster in which each state has two rows in its first partition, and none in others."""

    def __init__(self, members: Sequence[str] = ()) -> None:
        self._members = list(members)
        self.put_rows: list[tuple[str, bytes, Record | None, int]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """It keeps nothing open."""

    def members_of(self, group: str) -> list[str]:
        assert group == "p.tapewire"
        return self._members

    async def put(self, topic: Topic, key: bytes, row: Record | None, partition: int) -> None:
        self.put_rows.append((topic.name, key, row, partition))


async def rows(topics: Mapping[str, Topic], number: int, _: object) -> Any:
    return {name: {b"a": ROW, b"b": ROW} if number == 0 else {} for name in topics}


async def no_growths(*_: object) -> Growths:
    return Growths()


def run_on(monkeypatch: pytest.MonkeyPatch, kafka: Kafka) -> None:
    monkeypatch.setattr(downgrade, "TopicAdmin", lambda _: kafka)
    monkeypatch.setattr(downgrade, "Publisher", lambda _: kafka)
    monkeypatch.setattr(downgrade, "read_rows", rows)
    monkeypatch.setattr(downgrade, "read_growths", no_growths)


async def test_a_row_of_each_partition_is_written_again_and_saved_positions_are_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = Kafka()
    run_on(monkeypatch, kafka)
    states = [state.name for known in processors_of(SETTINGS) for state in known.states]
    assert await end_states_with_rows(SETTINGS) == len(states)
    assert kafka.put_rows == [
        *((name, b"a", ROW, 0) for name in states),
        *((PROCESSOR_POSITIONS.name, b"%d" % n, None, n) for n in range(PARTITIONS)),
    ]


async def test_nothing_is_written_while_processors_run(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(["worker-2", "worker-1"])
    run_on(monkeypatch, kafka)
    with pytest.raises(DowngradeRefused, match="processors are running: worker-1, worker-2; stop"):
        await end_states_with_rows(SETTINGS)
    assert kafka.put_rows == []


def test_the_command_says_why_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAPEWIRE_WRITE_AS_RELEASE", raising=False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value) == (
        "nothing is prepared: TAPEWIRE_WRITE_AS_RELEASE is unset; processors of 0.1.0 can take "
        "over only where newer ones have run with 0.1.0"
    )
