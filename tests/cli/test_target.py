from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli import target
from cli.errors import EdgeUnreachable, NoSystem
from cli.target import KafkaTarget, find_edge, find_kafka
from infra.data_dir import RunningSystem, announced, this_process
from infra.embedded_broker import free_port
from infra.errors import KafkaUnreachable
from infra.settings import InfraSettings
from tests.support.scripted_server import scripted


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setattr(target, "cluster_id_of", lambda servers, **_: f"id of {servers}")


@pytest.fixture
def settings(tmp_path: Path) -> InfraSettings:
    return InfraSettings(data_dir=tmp_path)


@pytest.fixture
def running(settings: InfraSettings) -> Iterator[RunningSystem]:
    pid, process_started_s = this_process()
    with scripted({"GET /health/live": [(200, {"status": "live"})]}) as edge:
        system = RunningSystem(
            url=edge.url,
            bootstrap_servers="localhost:9093",
            cluster_id="id of localhost:9093",
            topic_prefix="desk.",
            var_limits="IBM=0.03",
            pid=pid,
            process_started_s=process_started_s,
        )
        with announced(settings.data_dir, system):
            yield system


def named(settings: InfraSettings, servers: str) -> InfraSettings:
    return settings.model_copy(update={"bootstrap_servers": servers})


def test_the_system_of_the_data_directory_is_found_and_named(
    running: RunningSystem, settings: InfraSettings
) -> None:
    lines: list[str] = []
    assert find_edge(None, settings, lines.append) == running.url
    assert find_kafka(settings, lines.append) == KafkaTarget("localhost:9093", "desk.", "IBM=0.03")
    assert lines[0] == lines[1]
    for part in (running.url, "localhost:9093", str(settings.data_dir)):
        assert part in lines[0]


def test_nothing_is_guessed_where_no_system_runs(settings: InfraSettings) -> None:
    with pytest.raises(NoSystem, match=f"no system runs on {settings.data_dir}.*--url"):
        find_edge(None, settings, print)
    with pytest.raises(NoSystem, match="KAFKA_BOOTSTRAP_SERVERS"):
        find_kafka(settings, print)


def test_a_kafka_is_named_by_the_environment(settings: InfraSettings) -> None:
    lines: list[str] = []
    found = find_kafka(named(settings, "kafka:9092"), lines.append)
    assert found.bootstrap_servers == "kafka:9092"
    assert lines == ["Kafka: kafka:9092 (cluster id of kafka:9092), from KAFKA_BOOTSTRAP_SERVERS"]


@pytest.mark.usefixtures("running")
def test_two_systems_are_one_too_many(settings: InfraSettings) -> None:
    with pytest.raises(NoSystem, match=r"is kafka:9092, but the system on .* uses localhost:9093"):
        find_kafka(named(settings, "kafka:9092"), print)
    assert find_kafka(named(settings, "localhost:9093"), print).topic_prefix == "desk."


def test_another_kafka_in_the_place_of_the_systems_is_refused(
    running: RunningSystem, settings: InfraSettings
) -> None:
    with (
        announced(settings.data_dir, replace(running, cluster_id="other")),
        pytest.raises(NoSystem, match="answers the cluster id of localhost:9093"),
    ):
        find_kafka(settings, print)


def test_a_named_edge_that_does_not_answer_is_named(settings: InfraSettings) -> None:
    url = f"http://localhost:{free_port()}"
    with pytest.raises(EdgeUnreachable, match=f"no edge answers at {url}"):
        find_edge(url, settings, print)


def test_a_kafka_that_does_not_answer_is_named_within_three_seconds(
    settings: InfraSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(target, "_KAFKA_S", 0.1)
    servers = f"localhost:{free_port()}"
    with pytest.raises(KafkaUnreachable, match=servers):
        find_kafka(named(settings, servers), print)
