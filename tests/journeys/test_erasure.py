"""A tenant is erased beside others with the same names, and nothing of it comes back."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cli import rebuild, tenant_erasure
from cli.errors import ErasureRefused, LogFailed
from cli.tenant_erasure import erase
from cli.tenant_survey import survey
from infra.demo_issuer import ISSUER, jwks_path, token
from kafka_io.errors import Fenced
from kafka_io.publisher import Publisher
from kafka_io.reader import (
    count_uncommitted,
    read_all,
    read_end_offsets,
    read_keyed,
    read_table,
)
from kafka_io.topic_admin import TopicAdmin
from kafka_io.topic_checks import INPUTS
from producers.returns import ReturnsPublisher
from schemas.erasures import subject_of_erasure
from schemas.events import BacktestProgress, JobStep, Return, TrainingProgress
from schemas.keys import tenant_of_key
from schemas.topics import (
    BACKTEST_JOBS,
    CATALOGUE,
    DASHBOARD_BOARDS,
    DEAD_LETTERS,
    NOTIFICATION_REQUESTS,
    OPERATOR_ACTIONS,
    PORTFOLIO_RETURNS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_SCENARIOS,
    RISK_STATE,
    TRAINING_TASKS,
    has_rows,
)
from tests.conftest import Started, World

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(240)]

DAY_US = 86_400_000_000
DAYS = 120
TENANTS = ("acme", "blue")
TABLES = tuple(topic for topic in CATALOGUE if has_rows(topic))
FILLED = (
    *(RISK_MEASURES, RISK_STATE, RISK_LIMITS, RISK_BOOKS, RISK_BOOK_STATE, RISK_SCENARIOS),
    *(TRAINING_TASKS, BACKTEST_JOBS, DASHBOARD_BOARDS),
)
LISTS = (
    *("/api/v1/measures", "/api/v1/limits", "/api/v1/books", "/api/v1/scenarios"),
    *("/api/v1/alerts", "/api/backtesting/jobs", "/trainmodel/running"),
)


async def work(world: World, url: str, headers: Mapping[str, str], tenant: str) -> None:
    """Let a tenant set limits, a book and a scenario, and write returns and runs."""
    async with httpx.AsyncClient(base_url=url, timeout=30, headers=headers) as http:
        for path, body in (
            ("limits/p", {"limits": [{"metric": "var_95", "limit": 0.001}]}),
            (
                "books/fund/desk",
                {"holdings": [{"series_id": "p", "quantity": 100.0, "price": 1.0}]},
            ),
            (
                "scenarios/crash",
                {"kind": "hypothetical", "shocks": {"p": -0.2}},
            ),
        ):
            answer = await http.put(f"/api/v1/{path}", json=body)
            assert answer.status_code == 200, answer.text
    dice = np.random.default_rng(7)
    values = dice.normal(0, 0.02, DAYS)
    returns = [Return("p", day * DAY_US, float(value)) for day, value in enumerate(values)]
    async with Publisher(world.producer_settings) as publisher:
        await ReturnsPublisher(publisher).send(returns, tenant=tenant)
        for event in (
            TrainingProgress(
                task_id="t", progress=1.0, status="running", message="", metrics={}, event_time_us=0
            ),
            BacktestProgress(
                backtest_id="j",
                progress=1.0,
                status="running",
                message="",
                results={},
                event_time_us=0,
                job=JobStep(kind="progress", symbol="S", strategy="rsi", owner="ann"),
            ),
        ):
            await publisher.publish(event, tenant=tenant)


async def until_processed(world: World) -> None:
    """Wait until processors have read all inputs, and those that they have written for others."""
    settings, group = world.producer_settings, f"{world.prefix}tapewire"
    inputs = [
        topic for topic in CATALOGUE if topic.name in INPUTS and topic is not NOTIFICATION_REQUESTS
    ]
    async with asyncio.timeout(90):
        known = None
        while True:
            ends = await read_end_offsets(inputs, settings)
            if ends == known and not await count_uncommitted(ends, group, settings):
                return
            known = ends


async def until_no_member(world: World) -> None:
    """Wait until Kafka counts no worker any more."""
    admin = TopicAdmin(world.kafka.bootstrap_servers)
    async with asyncio.timeout(60):
        while await asyncio.to_thread(admin.members_of, f"{world.prefix}tapewire"):
            continue


async def rows_of(world: World, tenant: str) -> dict[str, Any]:
    """Return the rows of a tenant by topic and key."""
    tables = [
        (topic.name, await read_table(topic, world.producer_settings, tenant)) for topic in TABLES
    ]
    return {f"{name} {key!r}": row for name, table in tables for key, row in table.items()}


async def lists_of(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what an edge lists to a caller."""
    async with httpx.AsyncClient(base_url=url, timeout=30, headers=headers) as http:
        return {path: (await http.get(path)).json() for path in LISTS}


async def test_an_erased_tenant_is_nowhere_any_more_and_others_have_all_that_they_had(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = world.producer_settings
    issuer = {"jwt_issuer": ISSUER, "jwt_jwks": jwks_path(tmp_path)}
    headers = {
        name: {"Authorization": f"Bearer {token(tmp_path, 'ann', name, 600)}"} for name in TENANTS
    }
    edge, worker = await world.edge(**issuer), await world.worker(batch_within_s=0.05)
    for name in TENANTS:
        await work(world, edge.url, headers[name], name)
    await until_processed(world)
    for topic in FILLED:
        assert await read_table(topic, settings, "acme"), topic.name
    assert all((await lists_of(edge.url, headers["acme"])).values())

    with pytest.raises(ErasureRefused, match=f"{world.prefix}tapewire: {world.prefix}worker-"):
        await erase(settings, "acme", "acme")
    for part in (worker, edge):
        await part.stop()
    await until_no_member(world)
    found = {share.topic.name: share for share in (await survey(settings, "acme")).shares}
    assert found[PORTFOLIO_RETURNS.name].records > 0
    assert not any(share.unread for share in found.values())
    kept, gone = await rows_of(world, "blue"), await rows_of(world, "acme")
    assert {topic.name for topic in FILLED} <= {name.partition(" ")[0] for name in gone}
    assert not (await erase(settings, "acme", None, is_dry=True)).document["erased"]
    assert await rows_of(world, "acme") == gone

    await erase_in_two_runs(world, monkeypatch)
    assert await rows_of(world, "acme") == {}
    assert await rows_of(world, "blue") == kept
    actions = [action.subject for action in await read_all(OPERATOR_ACTIONS, settings)]  # type: ignore[attr-defined]
    assert set(actions) == {subject_of_erasure("acme")}

    edge, worker = await world.edge(**issuer), await world.worker(batch_within_s=0.05)
    await until_processed(world)
    assert not any((await lists_of(edge.url, headers["acme"])).values())
    assert all((await lists_of(edge.url, headers["blue"])).values())
    await is_not_rebuilt(world)
    await comes_back_anew(world, edge, headers["acme"])
    assert await read_all(DEAD_LETTERS, settings) == []


async def erase_in_two_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erase the tenant by a command that is interrupted, and by one that goes on."""
    settings, write = world.producer_settings, tenant_erasure._write
    written = 0

    async def interrupted(*arguments: Any) -> None:
        nonlocal written
        written += 1
        if written > 2:
            raise Fenced("interrupted")
        await write(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(tenant_erasure, "_write", interrupted)
        with pytest.raises(LogFailed, match="run `tapewire tenant erase` again"):
            await erase(settings, "acme", "acme")
    assert await rows_of(world, "acme")
    answer = await erase(settings, "acme", "acme")
    fates = {row["topic"]: row["fate"] for row in answer.document["topics"]}
    assert fates[world.topic(RISK_STATE.name)] == "erased"
    assert fates[world.topic(PORTFOLIO_RETURNS.name)] == "kept_for_ever"
    assert fates[world.topic("training.events")] == "remains"


async def is_not_rebuilt(world: World) -> None:
    """Compute all measures again from the log, which has the returns of the tenant still."""
    terminal = rebuild.Terminal(lambda _: None)
    await rebuild.rebuild(world.producer_settings, "v2", world.folder, terminal, switch=False)
    anew = world.producer_settings.model_copy(update={"topic_prefix": f"{world.prefix}v2."})
    for topic in (RISK_MEASURES, RISK_STATE):
        tenants = {tenant_of_key(key) for key, _ in await read_keyed(topic, anew)}
        assert tenants == {"blue"}, topic.name


async def comes_back_anew(world: World, edge: Started, headers: Mapping[str, str]) -> None:
    """Let the tenant write again: it begins without a past."""
    async with Publisher(world.producer_settings) as publisher:
        await ReturnsPublisher(publisher).send([Return("p", 0, 0.5)], tenant="acme")
    await until_processed(world)
    async with httpx.AsyncClient(base_url=edge.url, timeout=30, headers=headers) as http:
        [measure] = (await http.get("/api/v1/measures")).json()
    assert measure["observations"] == 1
