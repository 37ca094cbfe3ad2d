from pathlib import Path

import pytest

from infra.settings import InfraSettings
from kafka_io.settings import ProducerSettings
from producers.agents.agents import agents


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    monkeypatch.setenv("TAPEWIRE_DATA_DIR", "/data")
    settings = InfraSettings()
    assert (settings.bootstrap_servers, settings.data_dir) == ("kafka:9092", Path("/data"))


def test_without_kafka_the_broker_is_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    assert InfraSettings().bootstrap_servers is None


def test_the_demo_gives_its_arithmetic_agent_the_names_that_clients_know() -> None:
    agent, *_ = agents(ProducerSettings(), names=InfraSettings().agent_names)
    assert (agent.agent_id, agent.name, agent.protocol) == ("a2a-math", "Math Agent", "a2a")
