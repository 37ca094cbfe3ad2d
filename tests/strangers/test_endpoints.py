"""Whatever strangers write, each endpoint of the edge answers with JSON or events, and never a 5xx.

The edge is whole but for Kafka. `make fuzz` draws many more examples than `make test`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from schemas.codec import encode
from schemas.errors import Refused
from schemas.events import ChatEventKind
from schemas.gate import admit
from schemas.run_ids import new_id
from schemas.topics import (
    AGENT_EVENTS,
    BACKTEST_BARS,
    BACKTEST_EVENTS,
    BACKTEST_JOBS,
    CHAT_MESSAGES,
    DASHBOARD_UPDATES,
    EDGE_NODES,
    EDGE_RENEWALS,
    MARKET_CANDLES,
    NOTIFICATION_DELIVERIES,
    NOTIFICATION_ROUTES,
    OPERATOR_ACTIONS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_BOOKS,
    RISK_HISTORY,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_REBUILDS,
    RISK_SCENARIOS,
    TOPIC_GROWTHS,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    USER_UPDATES,
    Topic,
    key_of,
)
from tests.support.asgi_edge import Answer, log_of_the_catalogue, serving
from tests.support.fake_log import FakeLog
from tests.support.sse import Reader
from tests.support.strangers import EXAMPLES, by_schema, within_bounds

pytestmark = [pytest.mark.strangers, pytest.mark.virtual_time]

any_draws = settings(
    max_examples=max(3, EXAMPLES // 5),  # each begins a whole edge
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    deadline=None,
    phases=set(Phase) - {Phase.explain},
)

RUN_ID = new_id(1_700_000_000_000_000)
"""An id that an edge could have given, at the fake log's time."""
NAMES = ("p", "q", "p/q", "a\nb", "\u00e9\U0001f600", RUN_ID)

JOBS = (BACKTEST_EVENTS, BACKTEST_JOBS, BACKTEST_BARS)
TASKS = (TRAINING_EVENTS, TRAINING_TASKS)
PLAIN = (ChatEventKind.JOIN, ChatEventKind.LEAVE)
"""The events whose data is a name, and no JSON."""
READ_BY: Mapping[str, Sequence[Topic]] = {
    "/api/v1/measures": [RISK_MEASURES],
    "/api/v1/measures?portfolio_id={}": [RISK_MEASURES],
    "/api/v1/measures/history": [RISK_HISTORY],
    "/api/v1/alerts": [RISK_OPEN],
    "/api/v1/limits": [RISK_LIMITS],
    "/api/v1/limits/{}": [RISK_LIMITS],
    "/api/v1/books": [RISK_BOOKS],
    "/api/v1/books/{}/{}/limits": [RISK_LIMITS],
    "/api/v1/books/{}": [RISK_BOOK_RISKS],
    "/api/v1/scenarios": [RISK_SCENARIOS],
    "/api/v1/scenarios/{}": [RISK_SCENARIOS],
    "/api/v1/notifications": [NOTIFICATION_ROUTES],
    "/api/v1/notifications/{}": [NOTIFICATION_ROUTES],
    "/api/v1/audit": [
        RISK_LIMITS,
        RISK_ACKS,
        RISK_BOOKS,
        RISK_SCENARIOS,
        NOTIFICATION_ROUTES,
        OPERATOR_ACTIONS,
        RISK_REBUILDS,
        TOPIC_GROWTHS,
    ],
    "/api/v1/connections": [EDGE_NODES],
    "/api/v1/sse/status": [EDGE_NODES],
    "/sse-metrics": [EDGE_NODES],
    "/trainmodel/status/{}": TASKS,
    "/trainmodel/running": TASKS,
    "/trainmodel/stream/{}": TASKS,
    "/trainmodel/stream?task_id={}&task_id=p": TASKS,
    "/api/backtesting/jobs": JOBS,
    "/api/backtesting/history": JOBS,
    "/api/sse/backtest/jobs": JOBS,
    "/api/sse/backtest/history": JOBS,
    "/api/sse/backtest/{}": JOBS,
    "/api/sse/backtest/{}/data": JOBS,
    "/chat-stream?room={}": [CHAT_MESSAGES],
    "/user-specific-stream/{}": [USER_UPDATES],
    "/process/stream?message=1%2B1&idempotency_key={}": [AGENT_EVENTS],
    "/api/v1/sse/training?from=earliest": [TRAINING_EVENTS],
    "/api/v1/sse/backtest?from=earliest": [BACKTEST_EVENTS],
    "/api/v1/sse/alerts?from=earliest": [RISK_ALERTS, EDGE_RENEWALS],
    "/api/v1/sse/measures?from=earliest&slow=conflate": [RISK_MEASURES],
    "/api/v1/sse/dashboard?from=earliest": [DASHBOARD_UPDATES],
    "/api/v1/sse/books?from=earliest": [RISK_BOOK_RISKS],
    "/api/v1/sse/notifications?from=earliest": [NOTIFICATION_DELIVERIES],
    "/api/v1/sse/candles?from=earliest": [MARKET_CANDLES],
    "/api/v1/sse/streams?topic=training:p&topic=alerts&topic=measures:q&from=earliest": [
        TRAINING_EVENTS,
        RISK_ALERTS,
        RISK_MEASURES,
    ],
    "/metrics": [RISK_MEASURES],
}
"""The requests, with the topics that their answers are made of."""


@st.composite
def records(draw: st.DrawFn, topic: Topic) -> tuple[bytes | None, bytes | None]:
    """Draw the key and value of a record: often with a name that others have, too."""
    value: bytes = draw(
        st.one_of([at(kind) for kind in topic.rows for at in (by_schema, within_bounds)])
    )
    key: bytes | None = draw(st.sampled_from([name.encode() for name in NAMES]))
    try:
        record: Any = admit(value)
    except Refused:
        return key, draw(st.sampled_from([value, value, b"garbage", None]))
    has_subject = topic.subject in {field.name for field in fields(record)}
    if topic.subject is not None and has_subject and draw(st.booleans()):
        record = replace(record, **{topic.subject: draw(st.sampled_from(NAMES))})
        value = encode(record)
    return draw(st.sampled_from([key_of(record), key_of(record), key])), value


def fill(log: FakeLog, topics: Sequence[Topic], data: st.DataObject) -> None:
    """Append records to topics, most of them to the partition of their key."""
    tenants = st.sampled_from([b"", b"", b"t", b"\xff"])
    for topic in topics:
        for key, value in data.draw(st.lists(records(topic), max_size=4)):
            number = log.partition_of(key or b"", topic.partitions)
            if data.draw(st.integers(0, 9)) == 0:
                number = 0
            log.append(topic.name, number, key or b"", value, tenant=data.draw(tenants))


@pytest.mark.parametrize("request_line", list(READ_BY))
@any_draws
@given(data=st.data())
async def test_each_endpoint_answers_whatever_its_topics_hold(
    request_line: str, data: st.DataObject
) -> None:
    log = log_of_the_catalogue()
    topics = READ_BY[request_line]
    fill(log, topics, data)
    async with serving(log) as edge:
        path, _, query = request_line.partition("?")
        name = quote(data.draw(st.sampled_from(NAMES)), safe="")
        for _ in range(2):  # before and after more records
            check(await edge.request(path.replace("{}", name), query.replace("{}", name)))
            fill(log, topics, data)
        check(await edge.request("/health/ready"))
        assert edge.errors == []


def check(answer: Answer) -> None:
    assert 200 <= answer.status < 500, answer
    assert answer.status != 421, "the guard has kept the request from the endpoint"
    kind = answer.headers.get("content-type", "")
    if "json" in kind:
        strict(answer.body.decode())
    elif kind.startswith("text/event-stream"):
        blocks, _, rest = answer.body.rpartition(b"\n\n")
        assert all(line.startswith(b":") for line in rest.splitlines())
        for block in Reader().feed(blocks + b"\n\n"):
            if block.data is not None and block.event not in PLAIN:
                strict(block.data)


def strict(text: str) -> object:
    """Parse JSON, which has neither NaN nor infinities."""

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
