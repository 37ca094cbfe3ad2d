"""A rebuild: the past computed anew beside a running worker, which then goes on from it."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import numpy as np
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from cli import book_replay, rebuild
from cli.errors import RebuildFailed
from infra.errors import PartFailed
from kafka_io.client import partition_of
from kafka_io.publisher import Publisher
from kafka_io.reader import read_all, read_end_offsets, read_table
from producers.returns import ReturnsPublisher
from schemas.events import (
    AlertAck,
    Book,
    DeadLetter,
    Holding,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
)
from schemas.topics import (
    DEAD_LETTERS,
    PARTITIONS,
    PORTFOLIO_RETURNS,
    RISK_ALERTS,
    RISK_BOOKS,
    RISK_MEASURES,
)
from stream_processors.grow import grow
from stream_processors.risk.scope import Scope
from stream_processors.settings import ProcessorSettings
from tests.conftest import World
from tests.support.clients import stream
from tests.support.lethal_worker import LETHAL

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

DAY_US = 86_400_000_000
PORTFOLIOS = ("calm", "wild")
FROM: Any = {"from": "earliest"}


async def observed(world: World, days: range, deviations: Mapping[str, float]) -> None:
    async with Publisher(world.producer_settings) as publisher:
        for name, deviation in deviations.items():
            dice = np.random.default_rng(sum(name.encode()) + days.start)
            values = dice.normal(0, deviation, len(days))
            returns = [
                Return(name, day * DAY_US, float(value))
                for day, value in zip(days, values, strict=True)
            ]
            await ReturnsPublisher(publisher).send(returns)


async def measured(world: World, prefix: str = "") -> dict[str, RiskMeasure]:
    settings = world.producer_settings
    anew = settings.model_copy(update={"topic_prefix": settings.topic_prefix + prefix})
    found = (await read_table(RISK_MEASURES, anew)).values()
    return {record.portfolio_id: record for record in found if isinstance(record, RiskMeasure)}


def figures(measures: Mapping[str, RiskMeasure]) -> dict[str, Any]:
    return {
        name: (measure.observations, measure.var_95, measure.es_99)
        for name, measure in measures.items()
    }


async def until_measured(world: World, day: int) -> dict[str, RiskMeasure]:
    return await until_all_measured(world, PORTFOLIOS, day)


async def until_all_measured(
    world: World, names: Iterable[str], day: int
) -> dict[str, RiskMeasure]:
    wanted = dict.fromkeys(names, day * DAY_US)
    async with asyncio.timeout(60):
        while True:
            found = await measured(world)
            if {name: record.as_of_us for name, record in found.items()} == wanted:
                return found


async def test_a_rebuild_under_the_same_settings_finds_the_same_and_changes_nothing(
    world: World,
) -> None:
    await world.worker(batch_within_s=0.05, var_limit=0.02)
    await put_book(world, 0.001)
    await observed(world, range(300), {"calm": 0.01, "wild": 0.03})
    before = await until_measured(world, 299)
    async with asyncio.timeout(60):
        while not any(alert.entity_id == "firm/desk" for alert in await alerts_of(world, "")):
            continue
    alerts = await read_all(RISK_ALERTS, world.producer_settings)
    assert alerts
    printed: list[str] = []
    await rebuild.rebuild(
        world.producer_settings,
        "v2",
        world.folder,
        rebuild.Terminal(printed.append),
        switch=True,
        env={"TAPEWIRE_VAR_LIMIT": "0.02"},
    )
    assert "measures equal                     2" in printed
    assert "books equal                        2" in printed
    assert "alert steps only before            0" in printed
    assert "alert steps only now               0" in printed
    of_book = await asyncio.to_thread(
        book_replay.run, "firm/desk", world.producer_settings, None, ProcessorSettings()
    )
    sent = [alert for alert in await alerts_of(world, "") if alert.entity_id == "firm/desk"]
    assert [alert.transition_id for alert in of_book.alerts] == [
        alert.transition_id for alert in sent
    ]
    await observed(world, range(300, 310), {"calm": 0.01, "wild": 0.03})
    after = await until_measured(world, 309)
    assert after.keys() == before.keys()
    again = await read_all(RISK_ALERTS, world.producer_settings)
    assert again[: len(alerts)] == alerts


async def put_book(world: World, limit: float) -> None:
    """Put a book of both portfolios, with a limit."""
    holdings = [Holding(name, 1.0, 100.0, 0) for name in PORTFOLIOS]
    bound = RiskLimit("var_95", limit)
    async with Publisher(world.producer_settings) as publisher:
        home = await publisher.partition_for(RISK_BOOKS, b"firm")
        book = Book(root="firm", book_id="desk", holdings=holdings, event_time_us=0)
        await publisher.publish(book, partition=home)
        limits = RiskLimits(
            portfolio_id="firm/desk", entity_type="book", limits=[bound], event_time_us=0
        )
        await publisher.publish(limits, partition=home)


@pytest.mark.long
async def test_a_return_that_kills_the_rebuilds_worker_is_set_aside_and_the_rebuild_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "module_name", lambda _: "tests.support.lethal_worker")
    await observed(world, range(100), {"calm": 0.01, LETHAL: 0.01})
    printed: list[str] = []
    say = rebuild.Terminal(printed.append)
    await rebuild.rebuild(world.producer_settings, "v2", world.folder, say, switch=False)
    assert set(await measured(world, "v2.")) == {"calm"}
    settings = world.producer_settings.model_copy(update={"topic_prefix": f"{world.prefix}v2."})
    letters = await read_all(DEAD_LETTERS, settings)
    assert letters
    assert all(isinstance(letter, DeadLetter) for letter in letters)
    assert {getattr(letter, "reason", "") for letter in letters} == {"failed"}
    log = (world.folder / "rebuild-v2.log").read_text()
    assert log.count("this is the end") == 4 * len(letters)


@pytest.mark.long
async def test_workers_that_were_given_other_settings_go_on_from_a_past_that_fits_them(
    world: World,
) -> None:
    edge = await world.edge()
    old = await world.worker(batch_within_s=0.05, var_limit=0.02, risk_window=100)
    wild = {"calm": 0.005, "wild": 0.03}
    await observed(world, range(150), wild)
    await observed(world, range(150, 250), {"calm": 0.03, "wild": 0.005})
    before = await until_measured(world, 249)
    await old.stop()
    # An upgrade: a longer window. Its states go on from shorter ones, until they are rebuilt.
    settings = {"var_limit": 0.02, "risk_window": 250}
    await world.worker(batch_within_s=0.05, **settings)
    async with stream(edge.url, "/api/v1/sse/alerts", **FROM) as client:
        await rebuild.rebuild(
            world.producer_settings,
            "v2",
            world.folder,
            rebuild.Terminal(print),
            switch=True,
            env={f"TAPEWIRE_{name.upper()}": str(value) for name, value in settings.items()},
        )
        expected = await measured(world, "v2.")
        async with asyncio.timeout(60):
            while {
                name: (item.observations, item.var_95)
                for name, item in (await measured(world)).items()
            } != {name: (item.observations, item.var_95) for name, item in expected.items()}:
                continue
        assert {item.observations for item in expected.values()} == {250}
        assert {item.observations for item in before.values()} == {100}

        # Only over the longer window does what was wild once exceed its limit still.
        def raised_again(blocks: list[Any]) -> bool:
            events = [block.inner for block in blocks if block.data and block.inner]
            steps = [event["state"] for event in events if event.get("entity_id") == "wild"]
            return steps[-2:] == ["cleared", "raised"]

        await client.until(raised_again)
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        while {item["entity_id"] for item in (await http.get("/api/v1/alerts")).json()} != {
            "calm",
            "wild",
        }:
            continue
    # And from there on.
    await observed(world, range(250, 260), wild)
    after = await until_measured(world, 259)
    assert {item.observations for item in after.values()} == {250}
    steps = [
        record
        for record in await read_all(RISK_ALERTS, world.producer_settings)
        if isinstance(record, RiskAlert)
    ]
    assert len({step.transition_id for step in steps}) == len(steps)


async def limited(world: World, limit: float, *names: str) -> None:
    async with Publisher(world.producer_settings) as publisher:
        limits = [RiskLimit("var_95", limit, critical_ratio=1.5)]
        for name in names or ("wild",):
            await publisher.publish(RiskLimits(portfolio_id=name, limits=limits, event_time_us=0))


async def alerts_of(world: World, prefix: str) -> list[RiskAlert]:
    settings = world.producer_settings
    anew = settings.model_copy(update={"topic_prefix": settings.topic_prefix + prefix})
    found = await read_all(RISK_ALERTS, anew)
    return [record for record in found if isinstance(record, RiskAlert)]


async def test_limits_and_acknowledgements_take_effect_where_they_are_in_the_log(
    world: World,
) -> None:
    # Days of one deviation, so that alerts depend on the limits of each day and on nothing else.
    deviations = {"calm": 0.005, "wild": 0.03}
    await observed(world, range(150), deviations)
    for day, limit in ((150, 0.2), (152, 0.035), (154, 0.02), (156, 0.1), (158, 0.04)):
        await limited(world, limit)
        await observed(world, range(day, day + 2), deviations)
    # A worker that starts now is given all topics at once.
    first = await world.worker(batch_within_s=0.05, var_limit=0.5)
    await until_measured(world, 159)
    opened = (await alerts_of(world, ""))[-1]
    async with Publisher(world.producer_settings) as publisher:
        await publisher.publish(
            AlertAck(alert_id=opened.alert_id, entity_id="wild", by="ann", event_time_us=0)
        )
    await limited(world, 0.045)
    await observed(world, range(160, 162), deviations)
    await until_measured(world, 161)
    await first.stop()
    await world.worker(batch_within_s=0.05, var_limit=0.5)
    await limited(world, 0.01)
    await observed(world, range(162, 164), deviations)
    await until_measured(world, 163)
    live = await alerts_of(world, "")
    # Each is at the day of the limit that caused it.
    assert {alert.event_time_us // DAY_US for alert in live} <= set(range(149, 164))
    assert "acknowledged" in {alert.state for alert in live}
    printed: list[str] = []
    terminal = rebuild.Terminal(printed.append)
    env = {"TAPEWIRE_VAR_LIMIT": "0.5"}
    settings, folder = world.producer_settings, world.folder
    await rebuild.rebuild(settings, "v2", folder, terminal, switch=True, env=env)
    assert [(alert.transition_id, alert.event_time_us) for alert in live] == [
        (alert.transition_id, alert.event_time_us) for alert in await alerts_of(world, "v2.")
    ]
    assert "open alerts equal                  1" in printed
    assert "nothing changed for clients" in printed[-1]
    assert await alerts_of(world, "") == live


@pytest.mark.long
async def test_a_rebuild_of_one_portfolio_leaves_the_others_as_they_are(world: World) -> None:
    old = await world.worker(batch_within_s=0.05, var_limit=0.02, risk_window=100)
    await observed(world, range(150), {"calm": 0.01, "wild": 0.03})
    await until_measured(world, 149)
    await old.stop()
    await world.worker(batch_within_s=0.05, var_limit=0.02, risk_window=250)
    printed: list[str] = []
    await rebuild.rebuild(
        world.producer_settings,
        "v2",
        world.folder,
        rebuild.Terminal(printed.append),
        switch=True,
        scope=Scope("", "wild"),
        env={"TAPEWIRE_VAR_LIMIT": "0.02", "TAPEWIRE_RISK_WINDOW": "250"},
    )
    assert "measures different                 1" in printed
    assert (await measured(world, "v2.")).keys() == {"wild"}
    await observed(world, range(150, 151), {"calm": 0.01, "wild": 0.03})
    after = await until_measured(world, 150)
    assert {name: measure.observations for name, measure in after.items()} == {
        "calm": 101,
        "wild": 151,
    }


@pytest.mark.long
async def test_a_rebuild_follows_portfolios_to_the_partitions_of_a_growth(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_io.client.PRODUCER_METADATA_S", 0.5)
    names = [f"p{number}" for number in range(8)]
    moved = [
        name
        for name in names
        if partition_of(name.encode(), PARTITIONS) != partition_of(name.encode(), 2 * PARTITIONS)
    ]
    assert moved
    deviations = dict.fromkeys(names, 0.03)
    processors = ProcessorSettings(
        bootstrap_servers=world.kafka.bootstrap_servers,
        topic_prefix=world.prefix,
        var_limit=0.04,
        batch_within_s=0.05,
    )
    worker = await world.worker(batch_within_s=0.05, var_limit=0.04)
    await observed(world, range(150), deviations)
    await until_all_measured(world, names, 149)
    await worker.stop()
    await limited(world, 0.05, *moved)  # in partitions that these portfolios are about to leave
    await grow(processors, 2 * PARTITIONS, settle_s=1.0, say=print)
    await world.worker(batch_within_s=0.05, var_limit=0.04)
    await observed(world, range(150, 170), deviations)
    # A producer that does not know the new partitions yet.
    async with Publisher(world.producer_settings) as publisher:
        for name in moved:
            late = ReturnBatch(returns=[Return(name, 170 * DAY_US, -0.2)])
            home = partition_of(name.encode(), PARTITIONS)
            await publisher.publish(late, partition=home)
    await observed(world, range(171, 175), deviations)
    expected = 174 * len(names) + len(moved)
    async with asyncio.timeout(60):  # the forwarded returns may be the last
        while sum(item.observations for item in (await measured(world)).values()) < expected:
            continue
    live = await alerts_of(world, "")
    before = await measured(world)
    printed: list[str] = []
    await rebuild.rebuild(
        world.producer_settings,
        "v2",
        world.folder,
        rebuild.Terminal(printed.append),
        switch=True,
        env={"TAPEWIRE_VAR_LIMIT": "0.04"},
    )
    assert f"measures equal              {len(names):>8}" in printed
    assert "nothing changed for clients" in printed[-1]
    ids = sorted((alert.entity_id, alert.transition_id) for alert in live)
    rebuilt = await alerts_of(world, "v2.")
    assert sorted((alert.entity_id, alert.transition_id) for alert in rebuilt) == ids
    assert figures(await measured(world, "v2.")) == figures(before)
    await observed(world, range(175, 178), deviations)
    await until_all_measured(world, names, 177)


async def test_a_rebuild_that_cannot_be_says_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await observed(world, range(10), {"calm": 0.01})
    settings = world.producer_settings
    with pytest.raises(PartFailed, match="died with exit code"):
        await rebuild.rebuild(
            settings,
            "v2",
            world.folder,
            rebuild.Terminal(print),
            switch=False,
            env={"TAPEWIRE_VAR_LIMITS": "IBM=much"},
        )
    with pytest.raises(RebuildFailed, match="a rebuild v2 exists already"):
        await rebuild.rebuild(settings, "v2", world.folder, rebuild.Terminal(print), switch=False)
    monkeypatch.setattr(rebuild, "_TAKEN_OVER_WITHIN_S", 3.0)
    with pytest.raises(RebuildFailed, match="no worker took over"):
        await rebuild.rebuild(settings, "v3", world.folder, rebuild.Terminal(print), switch=True)


async def test_a_rebuild_is_refused_where_the_log_has_less_than_the_states(world: World) -> None:
    await world.worker(batch_within_s=0.05)
    await observed(world, range(10), {"calm": 0.01, "wild": 0.01})
    await until_measured(world, 9)
    await observed(world, range(10, 12), {"calm": 0.01, "wild": 0.01})
    settings = world.producer_settings
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    ends = await read_end_offsets([PORTFOLIO_RETURNS], settings)
    first = [TopicPartition(*where, 1) for where, end in ends.items() if end]
    for deleted in admin.delete_records(first).values():
        await asyncio.to_thread(deleted.result)
    with pytest.raises(RebuildFailed, match="from 1970-01-01 on in its state, and the log has its"):
        await rebuild.rebuild(settings, "v2", world.folder, rebuild.Terminal(print), switch=True)
