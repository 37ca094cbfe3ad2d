"""The embedded broker keeps a bounded number of bytes, which the guide tells."""

import socket
import threading
from pathlib import Path

import pytest

from infra.embedded_broker import (
    bounded_disk,
    disk_bytes_max,
    free_port,
    prepare,
    wait_for_port,
)
from infra.errors import BrokerFailed
from infra.settings import InfraSettings
from schemas.topics import (
    CATALOGUE,
    DASHBOARD_BOARDS,
    DASHBOARD_TALLIES,
    DASHBOARD_UPDATES,
    EDGE_NODES,
    MARKET_CANDLES,
    MARKET_FORMING,
    MARKET_TRADES,
    PORTFOLIO_RETURNS,
    PROCESSOR_POSITIONS,
    RISK_ALERTS,
    RISK_HISTORY,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_STATE,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    Topic,
)

DEMO = (
    DASHBOARD_BOARDS,
    DASHBOARD_TALLIES,
    DASHBOARD_UPDATES,
    EDGE_NODES,
    MARKET_CANDLES,
    MARKET_FORMING,
    MARKET_TRADES,
    PORTFOLIO_RETURNS,
    PROCESSOR_POSITIONS,
    RISK_ALERTS,
    RISK_HISTORY,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_STATE,
    TRAINING_EVENTS,
    TRAINING_TASKS,
)
"""The topics that a demo writes to while nobody requests anything."""

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "operate.md").read_text(encoding="utf-8")


def test_a_small_bound_makes_small_segments_since_the_newest_one_is_kept() -> None:
    properties = bounded_disk(1 << 20)
    assert properties["log.retention.bytes"] == properties["log.segment.bytes"] == str(1 << 20)
    assert bounded_disk(32 << 20)["log.segment.bytes"] == str(4 << 20)


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
def test_every_topic_is_deleted_by_size_or_compacted(topic: Topic) -> None:
    """The broker's bounds hold, since no topic has bounds of its own."""
    config = topic.config()
    assert set(config["cleanup.policy"].split(",")) <= {"compact", "delete"}
    assert not {"retention.bytes", "segment.bytes"} & set(config)
    if config["cleanup.policy"] == "delete":
        assert topic.retention_ms is not None


def test_the_bound_counts_partitions_by_their_policy() -> None:
    mib = 1 << 20
    kafka = 8 * 2 * 4 + 40
    assert disk_bytes_max([], 32 * mib) == kafka * mib
    assert disk_bytes_max([RISK_ALERTS], 32 * mib) == (kafka + 6 * 36) * mib
    assert disk_bytes_max([RISK_STATE], 32 * mib) == (kafka + 6 * 8) * mib
    assert disk_bytes_max([RISK_ALERTS, EDGE_NODES], mib) == (8 * 2 + 40 + 6 * 2 + 2) * mib


def test_the_guide_tells_the_bounds() -> None:
    size = InfraSettings.model_fields["partition_bytes_max"].default
    for topics, kept in ((DEMO, size), (CATALOGUE, size), (DEMO, 4 << 20)):
        megabytes = -(-disk_bytes_max(topics, kept) // 1_000_000)
        assert f"{megabytes:,} MB" in GUIDE


def test_missing_jars_come_from_the_repository_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(BrokerFailed, match=f"Kafka's jars are missing: {url}/.* cannot be"):
        prepare(tmp_path / "kafka", free_port(), maven_url=url)
    assert not (tmp_path / "kafka").exists()


def test_a_port_is_waited_for_until_something_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    has_failed = threading.Event()
    monkeypatch.setattr("infra.embedded_broker.time.sleep", lambda _: has_failed.set())
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", port))
        waiting = threading.Thread(target=wait_for_port, args=(port, 60.0))
        waiting.start()
        assert has_failed.wait(60)
        listening.listen()
        waiting.join(60)
        assert not waiting.is_alive()


def test_a_port_is_waited_for_no_longer_than_asked() -> None:
    wait_for_port(free_port(), 0.0)
