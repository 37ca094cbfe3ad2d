"""Which processors run for a partition number, where topics differ in their partitions."""

from typing import Any, cast

from schemas.topics import PARTITIONS
from stream_processors.metrics import WorkerMetrics
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import Tasks, processors_of

SETTINGS = ProcessorSettings(topic_prefix="x.")
GROWN = 2 * PARTITIONS


def topics_of(number: int) -> set[str]:
    tasks = Tasks(SETTINGS, processors_of(SETTINGS), GROWN, WorkerMetrics())
    make_task = tasks.make(cast("Any", None))
    return {topic for topic, _ in make_task(number).partitions}


def test_a_number_that_only_portfolios_have_reads_only_their_topics() -> None:
    assert topics_of(PARTITIONS) == {
        *("x.portfolio.returns", "x.risk.limits", "x.risk.acks", "x.risk.wanted"),
        *("x.risk.rebuilds", "x.risk.scenarios"),
    }


def test_a_number_that_all_topics_have_reads_all() -> None:
    tasks = Tasks(SETTINGS, processors_of(SETTINGS), GROWN, WorkerMetrics())
    assert topics_of(PARTITIONS - 1) == set(tasks.inputs)
    assert {"x.market.trades", "x.dashboard.tallies"} < set(tasks.inputs)
    assert {"x.risk.state", "x.market.forming"} < set(tasks.topics)
