"""A log in which two tenants, and users of one of them, have things of the same names."""

from dataclasses import replace
from typing import Any, NamedTuple

from schemas.codec import encode
from schemas.events import (
    Book,
    JobStep,
    NotificationRoute,
    OpenAlert,
    RiskHistory,
    RiskLimit,
    RiskLimits,
    Scenario,
    StoryState,
)
from schemas.keys import encode_key
from schemas.run_ids import Owner, new_id
from schemas.topics import CATALOGUE, topic_of
from sse_edge.streams import examples
from tests.support.fake_log import FakeLog

ALICE, BOB = Owner("acme", "alice"), Owner("acme", "bob")
ELSEWHERE = Owner("other", "alice")
USERS = (ALICE, BOB, ELSEWHERE)
AT_US = 1_700_000_000_000_000
TASKS = {user: new_id(AT_US, user) for user in USERS}
ONLY_ACME = "only-acme"
"""The name of what only one tenant has."""


def mark(tenant: str | None, user: str | None = None) -> str:
    """Return a text that is in all that a tenant has, or a user."""
    return f"mark-{tenant}-{user or 'all'}-"


class Written(NamedTuple):
    """Where a record is."""

    partition: int
    offset: int


class TenantsLog(FakeLog):
    """The log."""

    def __init__(self, partitions: int = 2) -> None:
        super().__init__(seed=8, slowest_s=0.0)
        for topic in CATALOGUE:
            self.make(topic.name, 1 if topic.partitions == 1 else partitions)
        # What is of others comes first, so that a stream that has its own has passed them.
        for tenant in (None, "other", "acme"):
            self._of_tenant(tenant)
        for user in (ELSEWHERE, BOB, ALICE):
            self._of_user(user)

    def put(self, event: Any, tenant: str | None, *, home: str | None = None) -> Written:
        topic = topic_of(event)
        assert topic.subject is not None
        key = encode_key(getattr(event, topic.subject), tenant)
        home_key = key if home is None else encode_key(home, tenant)
        where = self.partition_of(home_key, self.count(topic.name))
        encoded = (tenant or "").encode()
        return Written(where, self.append(topic.name, where, key, encode(event), tenant=encoded))

    def _of_tenant(self, tenant: str | None) -> None:
        text = mark(tenant)
        for name in ("P", ONLY_ACME) if tenant == "acme" else ("P",):
            self.put(
                RiskLimits(
                    portfolio_id=name,
                    limits=[],
                    stale_after_s=1.0,
                    comment=text,
                    event_time_us=AT_US,
                ),
                tenant,
            )
            self.put(
                RiskLimits(
                    portfolio_id=f"{name}/{name}",
                    limits=[RiskLimit("var_95", 0.1)],
                    comment=text,
                    event_time_us=AT_US,
                    entity_type="book",
                ),
                tenant,
                home=name,
            )
            self.put(replace(examples.MEASURES[0], portfolio_id=name, method=text), tenant)
            self.put(
                RiskHistory(portfolio_id=text, as_of_us=AT_US, observations=0, window=b""), tenant
            )
            self.put(
                OpenAlert(
                    alert_id=name,
                    entity_id=name,
                    alert_type="var_exceeded",
                    state="raised",
                    severity="high",
                    message=text,
                    acknowledged=False,
                    event_time_us=AT_US,
                ),
                tenant,
            )
            self.put(
                Scenario(
                    name=name,
                    version=1,
                    kind="hypothetical",
                    others="zero",
                    comment=text,
                    event_time_us=AT_US,
                ),
                tenant,
            )
            self.put(
                NotificationRoute(
                    name=name,
                    destination="webhook",
                    url=f"https://{text}.example/",
                    subjects=["alerts"],
                    event_time_us=AT_US,
                ),
                tenant,
            )
            self.put(
                Book(root=name, book_id=name, holdings=[], set_by=text, event_time_us=AT_US),
                tenant,
                home=name,
            )
            self.put(
                replace(examples.BOOKS[0], root=name, book_id=name, parent=None, missing=[text]),
                tenant,
            )
        self.put(replace(examples.ALERTS[0], entity_id="P", message=text), tenant)
        self.put(replace(examples.NOTIFICATIONS[0], detail=text), tenant)
        self.put(replace(examples.DASHBOARD[0], update_type=text), tenant)
        self.put(replace(examples.CHAT[1], room="lobby", message=text), tenant)
        self.put(replace(examples.BACKTEST[0], backtest_id="unowned", message=text), tenant)
        self.put(replace(examples.TRAINING[0], task_id="unowned", message=text), tenant)
        self.put(replace(examples.USER[0], user_id="alice", data=f'{{"text":"{text}"}}'), tenant)

    def _of_user(self, user: Owner) -> None:
        text = mark(user.tenant, user.subject)
        delivery = replace(examples.NOTIFICATIONS[0], detail=text, owner=user.subject)
        self.put(delivery, user.tenant)
        # The same job in both tenants, and another one of a user of the same tenant.
        job_id = "K" if user == BOB else "J"
        step = JobStep(kind="progress", symbol="S", strategy="rsi", owner=user.subject)
        event = replace(examples.BACKTEST[0], backtest_id=job_id, message=text, job=step)
        where = self.put(event, user.tenant)
        state = replace(
            examples.BACKTEST_JOBS[0],
            job_id=job_id,
            message=text,
            owner=user.subject,
            tenant=user.tenant,
            partition=where.partition,
            first_offset=where.offset,
            last_offset=where.offset,
            status="completed" if user == ELSEWHERE else "running",
        )
        self.put(state, user.tenant)
        task_id = TASKS[user]
        where = self.put(replace(examples.TRAINING[0], task_id=task_id, message=text), user.tenant)
        self.put(
            StoryState(
                subject=task_id,
                status="running",
                partition=where.partition,
                first_offset=where.offset,
                last_offset=where.offset,
                ended=False,
                tenant=user.tenant,
            ),
            user.tenant,
        )
