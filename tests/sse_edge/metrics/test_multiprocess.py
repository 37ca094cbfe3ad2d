import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from sse_edge.metrics.multiprocess import MultiprocessMetrics


def events(count: int) -> list[Metric]:
    return [CounterMetricFamily("tapewire_events_sent", "Events sent", value=count)]


def test_one_knows_what_the_living_ones_have_written(tmp_path: Path) -> None:
    mine = MultiprocessMetrics(tmp_path)
    mine.publish(events(3))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (tmp_path / f"{os.getpid()}.prom").rename(tmp_path / f"{other.pid}.prom")
        [family] = mine.with_others(events(5))
        found = {sample.labels["worker"]: sample.value for sample in family.samples}
        assert found == {str(os.getpid()): 5, str(other.pid): 3}
        other.communicate(b"\n")
    [family] = mine.with_others(events(5))
    assert [sample.labels["worker"] for sample in family.samples] == [str(os.getpid())]
    assert list(tmp_path.iterdir()) == []
