from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

from aiokafka import AIOKafkaConsumer

from kafka_io.idle_fetches import IDLE_WAIT_MS, wait_longer_when_idle

USUAL_MS = 200


class FakeFetcher:
    """Makes requests that say only how long they wait, as aiokafka's fetcher does."""

    def __init__(self) -> None:
        self._fetch_max_wait_ms = USUAL_MS
        self._records: dict[str, object] = {}

    def _get_actions_per_node(self, assignment: object) -> int:
        del assignment
        return self._fetch_max_wait_ms

    def take(self, untaken: Iterable[str]) -> None:
        """Leave only the records of some partitions."""
        self._records = dict.fromkeys(untaken, object())


def assignment_of(paused: Mapping[str, bool]) -> Any:
    states = {where: SimpleNamespace(paused=is_paused) for where, is_paused in paused.items()}
    return SimpleNamespace(tps=set(paused), state_value=states.__getitem__)


def test_only_a_fetch_of_all_partitions_waits_longer() -> None:
    fetcher = FakeFetcher()
    wait_longer_when_idle(cast("AIOKafkaConsumer", SimpleNamespace(_fetcher=fetcher)))
    make: Any = fetcher._get_actions_per_node
    assert make(assignment_of({"a": False, "b": False})) == IDLE_WAIT_MS
    assert make(assignment_of({"a": False, "b": True})) == USUAL_MS
    fetcher.take(["a"])
    assert make(assignment_of({"a": False, "b": False})) == USUAL_MS
    fetcher.take([])
    assert make(assignment_of({"a": False, "b": False})) == IDLE_WAIT_MS
