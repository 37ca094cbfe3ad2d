import os
from pathlib import Path

from infra.part_states import PartState, PartStates
from infra.system_metrics import SystemMetrics, log_bytes


def found(metrics: SystemMetrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.families()
        for sample in family.samples
    }


def test_parts_show_whether_they_are_up_and_how_often_they_were_started_again(
    tmp_path: Path,
) -> None:
    states = PartStates(None)
    for state in (PartState.STARTING, PartState.UP):
        states.set("edge", state)
    metrics = SystemMetrics(states, lambda: {"edge": os.getpid(), "gone": 1 << 30}, tmp_path)
    values = found(metrics)
    assert values["tapewire_part_up", "edge"] == 1
    assert values["tapewire_part_restarts_total", "edge"] == 0
    assert values["tapewire_part_resident_memory_bytes", "edge"] > 1 << 20
    assert values["tapewire_part_cpu_seconds_total", "edge"] > 0
    assert ("tapewire_part_cpu_seconds_total", "gone") not in values
    for state in (PartState.DOWN, PartState.WAITING, PartState.STARTING):
        states.set("edge", state)
    values = found(metrics)
    assert values["tapewire_part_up", "edge"] == 0
    assert values["tapewire_part_restarts_total", "edge"] == 1


def test_the_disk_is_shown_where_the_broker_is_embedded(tmp_path: Path) -> None:
    metrics = SystemMetrics(PartStates(None), dict, tmp_path)
    assert not [name for name, *_ in found(metrics) if "disk" in name]
    (tmp_path / "kafka" / "log" / "returns-0").mkdir(parents=True)
    values = found(metrics)
    assert values[("tapewire_broker_disk_free_bytes",)] > 0
    assert (
        values[("tapewire_broker_disk_free_bytes",)] < values[("tapewire_broker_disk_size_bytes",)]
    )


def test_a_topic_has_the_bytes_of_all_of_its_partitions(tmp_path: Path) -> None:
    for folder, size in (("risk.alerts-0", 5_000), ("risk.alerts-11", 9_000), ("meta", 7)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.log").write_bytes(b"x" * size)
    (tmp_path / "meta.properties").write_text("x")
    sizes = log_bytes(tmp_path)
    assert sizes.keys() == {"risk.alerts"}
    assert 14_000 <= sizes["risk.alerts"] < 40_000
