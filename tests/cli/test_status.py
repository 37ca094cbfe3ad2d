from pathlib import Path

import pytest

from cli.errors import LogFailed
from cli.log_survey import WrittenVersion
from cli.status import (
    Edge,
    Group,
    Lag,
    Status,
    as_json,
    edges_of,
    lags_of,
    lines_of,
    member_of,
    read_status,
)
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import GroupMember
from schemas.events import EdgeNode
from tests.conftest import World

NOW = 1_800_000_000_000_000


def node(name: str, connections: int, age_s: float, version: str = "1.0") -> EdgeNode:
    return EdgeNode(
        node_id=name,
        address=f"http://{name}:8000",
        host="h",
        process_id=1,
        version=version,
        status="active",
        started_us=0,
        interval_s=5.0,
        connections=connections,
        responses=0,
        channels=[],
        events_sent=0,
        errors=0,
        event_time_us=NOW - int(age_s * 1e6),
    )


def test_edges_have_the_connections_of_all_tenants_and_dead_ones_are_left_out() -> None:
    rows = {
        b"a": node("a", 2, 1),
        b"acme\xffa": node("a", 3, 3_000),
        b"b": node("b", 9, 16),
    }
    (edge,) = edges_of(rows, NOW)
    assert (edge.node_id, edge.connections, edge.seen_s) == ("a", 5, 1.0)


def test_members_name_their_version_and_host() -> None:
    assert member_of(GroupMember("w", "tapewire-0.2.0@desk-1")) == {
        "name": "w",
        "version": "0.2.0",
        "host": "desk-1",
    }
    assert member_of(GroupMember("w", "tapewire@desk-1"))["version"] == ""


def test_the_lag_counts_what_the_log_still_has() -> None:
    committed = {("t", 0): 5, ("t", 1): 9, ("t", 2): 2}
    ends = {("t", 0): 8, ("t", 1): 9, ("t", 2): 10, ("t", 3): 4}
    assert lags_of(committed, {("t", 2): 6}, ends) == [
        Lag("t", 0, 5, 8, 3),
        Lag("t", 1, 9, 9, 0),
        Lag("t", 2, 2, 10, 4),
    ]


def test_a_status_names_what_is_not_upgraded() -> None:
    status = Status(
        "2.0",
        {"processor": {"state": "down", "since": "now", "failure": "died with SIGKILL"}},
        [Edge("e", "http://e", "h", "1.0", "active", 3, "then", 0.5)],
        [
            Group(
                "tapewire",
                "processors",
                [{"name": "w", "version": "", "host": "h"}],
                [Lag("t", 0, 5, 8, 3), Lag("t", 1, 8, 8, 0)],
            ),
            Group("tapewire-notifier", "notifiers"),
        ],
        {"invalid": 2},
        1,
        [
            WrittenVersion("t", "Alert", 1, 2, "/old"),
            WrittenVersion("t", "Odd", None, None, "/new"),
            WrittenVersion("t", "Alert", 2, 2, "/now"),
        ],
    )
    assert list(lines_of(status)) == [
        "software   2.0",
        "part       processor    down since now, died with SIGKILL",
        "edge       http://e  1.0  active, 3 connections, seen 0.5 s ago on h",
        "group      tapewire (processors): w -; lag 3",
        "           t/0: 3 records behind 8",
        "group      tapewire-notifier (notifiers): no member; lag 0",
        "letters    2 invalid in the last hour; 1 are open: `tapewire dead-letters list`",
        "schema     /old writes version 1 of 2 of Alert",
        "schema     /new writes an unknown version of Odd",
        "upgrade    2 edges and workers are not of 2.0:",
        "           edge e 1.0",
        "           w of tapewire without a version",
    ]
    described = as_json(status)
    assert described["groups"][0]["lag"] == 3
    assert described["upgraded"] is False
    assert [found["record"] for found in described["old_writes"]] == ["Alert", "Odd"]


def test_a_system_without_anything_says_so() -> None:
    assert list(lines_of(Status("2.0"))) == [
        "software   2.0",
        "edge       none is alive",
        "letters    none in the last hour",
        "schema     all writers write the versions of this software",
        "upgrade    no edge and no worker runs",
    ]


def test_a_status_says_when_all_are_upgraded() -> None:
    edge = Edge("e", "http://e", "h", "2.0", "active", 3, "then", 0.5)
    workers = [
        Group(name, name, [{"name": "w", "version": "2.0", "host": "h"}])
        for name in ("tapewire", "tapewire-notifier", "tapewire-training.commands")
    ]
    status = Status("2.0", {}, [edge], workers)
    assert list(lines_of(status))[-1] == "upgrade    all edges and workers are of 2.0"
    assert as_json(status)["upgraded"] is True
    assert as_json(Status("2.0"))["upgraded"] is None
    unversioned = Status("", {}, [edge])
    assert "no version to compare" in list(lines_of(unversioned))[-1]
    assert as_json(unversioned)["upgraded"] is None


def test_names_of_members_and_edges_forge_no_line() -> None:
    edge = Edge("e", "http://e", "h\nedge       forged", "2.0", "active", 3, "then", 0.5)
    group = Group("g", "workers", [{"name": "\x1b[2J", "version": "2.0", "host": "h"}])
    lines = list(lines_of(Status("2.0", edges=[edge], groups=[group])))
    assert all(line.isprintable() for line in lines)


@pytest.mark.kafka
async def test_a_cluster_without_topics_is_named_with_the_command_that_makes_them(
    world: World, tmp_path: Path
) -> None:
    settings = ProducerSettings(
        bootstrap_servers=world.kafka.bootstrap_servers, topic_prefix=f"{world.prefix}none."
    )
    with pytest.raises(LogFailed, match=r"no topic .*none\.edge\.nodes; `tapewire topics create`"):
        await read_status(settings, tmp_path)
