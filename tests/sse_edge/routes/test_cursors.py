from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.requests import Request

from sse_edge.caller import Caller, Scope
from sse_edge.delivery.start import FromEdge
from sse_edge.errors import Forbidden, ForeignCursor
from sse_edge.routes.cursors import explain, explained
from sse_edge.streams.requests import one_channel
from tests.support.edge import ALERTS, alerts_log, running_edge, write_alerts

pytestmark = pytest.mark.virtual_time

STREAM = one_channel("alerts", {})


async def test_a_cursor_is_explained_by_its_offsets_and_its_lag() -> None:
    log = alerts_log(partitions=2)
    write_alerts(log, 0, 1, 2)
    async with running_edge(log) as edge:
        client = edge.connect(STREAM, FromEdge.EARLIEST)
        await client.until(3, event="risk_alert")
        write_alerts(log, 3, 4, partition=1)
        cursor = edge.cursor(STREAM, client.last_id or "")
        found = await explained(edge.node, STREAM, cursor)
    assert found == {
        "ended": False,
        "topics": [
            {
                "channel": "alerts",
                "topic": "risk.alerts",
                "is_present_incarnation": True,
                "partitions": [
                    {"partition": 0, "next_offset": 3, "end_offset": 3, "lag": 0},
                    {"partition": 1, "next_offset": 0, "end_offset": 2, "lag": 2},
                ],
            }
        ],
    }


async def test_a_cursor_of_a_topic_that_was_made_anew_has_no_lag() -> None:
    log = alerts_log()
    write_alerts(log, 0)
    async with running_edge(log) as edge:
        client = edge.connect(STREAM, FromEdge.EARLIEST)
        await client.until(1, event="risk_alert")
        cursor = edge.cursor(STREAM, client.last_id or "")
        log.make(ALERTS)
        found = await explained(edge.node, STREAM, cursor)
    topics: Any = found["topics"]
    [topic] = topics
    assert topic["is_present_incarnation"] is False
    assert topic["partitions"] == [
        {"partition": 0, "next_offset": 1, "end_offset": None, "lag": None}
    ]


async def test_a_cursor_is_read_with_the_filters_of_its_stream() -> None:
    log = alerts_log()
    async with running_edge(log) as edge:
        client = edge.connect(STREAM)
        await client.until(2)
        filtered = one_channel("alerts", {"entity_id": "p"})
        with pytest.raises(ForeignCursor):
            edge.cursor(filtered, client.last_id or "")


SECRET = SecretStr("a secret of the operator's own")
OPERATOR = Caller("alice", None, 0.0)


@pytest.mark.parametrize(
    ("secret", "caller", "is_refused"),
    [
        (None, Caller("alice", "acme", 0.0, frozenset()), False),
        (SECRET, None, False),
        (SECRET, OPERATOR, False),
        (SECRET, replace(OPERATOR, scopes=frozenset({Scope.READ})), True),
        (SECRET, replace(OPERATOR, tenant="acme"), True),
    ],
)
async def test_where_cursors_are_encrypted_only_operators_see_what_is_in_them(
    secret: SecretStr | None,
    caller: Caller | None,
    is_refused: bool,  # noqa: FBT001  # a column of the table
) -> None:
    log = alerts_log()
    write_alerts(log, 0)
    async with running_edge(log, cursor_secret=secret) as edge:
        client = edge.connect(STREAM, FromEdge.EARLIEST)
        await client.until(1, event="risk_alert")
        app = SimpleNamespace(state=SimpleNamespace(node=edge.node))
        scope = {"type": "http", "query_string": b"", "app": app, "state": {"caller": caller}}
        asking = explain(Request(scope), edge.node, client.last_id or "", "alerts")
        if is_refused:
            with pytest.raises(Forbidden):
                await asking
        elif caller is None:  # else the stream, and so its cursor, is that of a tenant
            assert (await asking)["ended"] is False
        else:
            with pytest.raises(ForeignCursor):
                await asking
