"""A stream has what its caller may read: of its tenant, and of itself or of no user."""

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest

from schemas.codec import encode
from schemas.events import BacktestProgress, JobStep, TrainingProgress
from schemas.keys import encode_key
from schemas.run_ids import new_id
from sse_edge.caller import Caller
from sse_edge.delivery.options import SlowClientPolicy
from sse_edge.delivery.start import FromEdge
from sse_edge.http.stream_response import readable_by
from sse_edge.streams.requests import many_channels, of_entities, one_channel
from sse_edge.streams.stream import Stream
from tests.support.edge import Edge, running_edge
from tests.support.fake_log import FakeLog
from tests.support.sse import Block

pytestmark = pytest.mark.virtual_time

BACKTESTS, TRAINING = "backtest.events", "training.events"


def caller(subject: str, tenant: str | None) -> Caller:
    return Caller(subject, tenant, time.time() + 1e6)


ALICE, BOB = caller("alice", "acme"), caller("bob", "acme")
ELSEWHERE, NOWHERE = caller("alice", "other"), caller("alice", None)
CALLERS = (ALICE, BOB, ELSEWHERE, NOWHERE)
TASKS = {each: new_id(1, each.owner) for each in CALLERS}


def job_of(tenant: str | None, owner: str | None) -> str:
    return f"job of {owner} of {tenant}"


def task_of(tenant: str | None, owner: str | None) -> str:
    return f"task of {owner} of {tenant}"


def a_log(*, keys_have_tenants: bool) -> FakeLog:
    """Return a log with a job and a task of each caller, and of no user of each tenant."""
    log = FakeLog(seed=5)
    log.make(BACKTESTS, 3)
    log.make(TRAINING, 3)

    def append(topic: str, entity: str, tenant: str | None, value: bytes) -> None:
        key = encode_key(entity, tenant if keys_have_tenants else None)
        where = log.partition_of(key, 3)
        log.append(topic, where, key, value, tenant=(tenant or "").encode())

    unowned = [(tenant, None) for tenant in ("acme", "other", None)]
    for tenant, owner in [*unowned, *((each.tenant, each.subject) for each in CALLERS)]:
        # The jobs have one name: only tenant and owner tell them apart.
        append(BACKTESTS, "J", tenant, backtest("J", owner, job_of(tenant, owner)))
    for tenant, _ in unowned:
        append(TRAINING, "T", tenant, training("T", task_of(tenant, None)))
    for each, task in TASKS.items():
        append(TRAINING, task, each.tenant, training(task, task_of(each.tenant, each.subject)))
    return log


def backtest(job_id: str, owner: str | None, message: str) -> bytes:
    step = JobStep(kind="progress", symbol="S", strategy="rsi", owner=owner)
    return encode(
        BacktestProgress(
            backtest_id=job_id,
            progress=1.0,
            status="running",
            message=message,
            results={},
            event_time_us=0,
            job=None if owner is None else step,
        )
    )


def training(task_id: str, message: str) -> bytes:
    return encode(
        TrainingProgress(
            task_id=task_id,
            progress=1.0,
            status="running",
            message=message,
            metrics={},
            event_time_us=0,
        )
    )


async def read(edge: Edge, stream: Stream, who: Caller | None) -> Sequence[str]:
    """Return the messages that a caller gets of a whole log."""
    client = edge.connect(readable_by(who, stream, None), FromEdge.EARLIEST)
    await asyncio.sleep(3)
    assert not client.over
    await edge.drop(client)
    return sorted(filter(None, map(_message, client.blocks)))


def _message(block: Block) -> str | None:
    if block.id is None or block.data is None:
        return None
    data = block.json
    found = data.get("data", data).get("message")
    return None if found is None else str(found)


Named = Callable[[str | None, str | None], str]


def expected(who: Caller, *of: Named) -> Sequence[str]:
    owners = (who.subject, None)
    return sorted(named(who.tenant, owner) for named in of for owner in owners)


@pytest.mark.parametrize("keys_have_tenants", [True, False])
@pytest.mark.parametrize("who", CALLERS, ids=lambda who: f"{who.subject} of {who.tenant}")
async def test_each_stream_has_its_callers_events_only(
    who: Caller, *, keys_have_tenants: bool
) -> None:
    async with running_edge(a_log(keys_have_tenants=keys_have_tenants)) as edge:
        for stream, events in (
            (one_channel("backtest", {}), (job_of,)),
            (one_channel("backtest", {"backtest_id": "J"}), (job_of,)),
            (of_entities("backtest_job", ["J"]), (job_of,)),
            (one_channel("training", {}), (task_of,)),
            (many_channels(["training", "backtest:J"]), (job_of, task_of)),
        ):
            assert await read(edge, stream, who) == expected(who, *events)
        for owner, task in TASKS.items():
            is_own = who == owner
            for stream in (of_entities("trainmodel", [task]), many_channels([f"training:{task}"])):
                found = await read(edge, stream, who)
                assert found == [task_of(who.tenant, who.subject)] * is_own


async def test_without_a_token_a_stream_has_the_events_of_all() -> None:
    async with running_edge(a_log(keys_have_tenants=True)) as edge:
        assert len(await read(edge, many_channels(["training", "backtest"]), None)) == 14
        # The entity that it names is the one without a tenant.
        found = await read(edge, one_channel("backtest", {"backtest_id": "J"}), None)
        assert found == sorted([job_of(None, "alice"), job_of(None, None)])


async def test_a_conflating_client_gets_counts_of_its_own_events_only() -> None:
    log = a_log(keys_have_tenants=False)
    stream = readable_by(ALICE, one_channel("backtest", {}), None)
    async with running_edge(log) as edge:
        client = edge.connect(stream, slow=SlowClientPolicy.CONFLATE)
        await client.until(2)
        client.stall()
        for number in range(40):
            for who in CALLERS:
                key = f"J of {who.subject}".encode()  # tenants share keys, users of a tenant do not
                value = backtest("J", who.subject, f"{number} {job_of(who.tenant, who.subject)}")
                where = log.partition_of(key, 3)
                log.append(BACKTESTS, where, key, value, tenant=(who.tenant or "").encode())
        await asyncio.sleep(3)
        client.read_on()
        await asyncio.sleep(3)
        seen = list(filter(None, map(_message, client.blocks)))
        merged = sum(block.inner["merged"] for block in client.blocks if block.event == "conflated")
        assert seen[-1].startswith("39 ")
        assert all(message.endswith(job_of("acme", "alice")) for message in seen)
        assert len(seen) + merged == 40
        assert merged > 30
