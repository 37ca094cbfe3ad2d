"""The worker on a real broker: killed in mid-stream it says what a straight run says."""

import asyncio
from collections.abc import Callable
from io import BytesIO
from itertools import count, islice
from math import nan

import fastavro
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from infra.errors import PartFailed
from infra.topics import provision
from kafka_io.client import partition_of
from kafka_io.publisher import Publisher
from kafka_io.reader import read_table
from producers.market.prices import load_prices, trading_days
from producers.progress import training_progress
from producers.returns import ReturnsPublisher
from schemas.codec import MARKER, encode, versions
from schemas.events import (
    DashboardUpdate,
    DeadLetter,
    PortfolioState,
    Record,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskMeasure,
    StoryState,
)
from schemas.topics import (
    PARTITIONS,
    PORTFOLIO_RETURNS,
    RISK_MEASURES,
    RISK_STATE,
    TRAINING_TASKS,
    TopicPartition,
)
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.window import ReturnWindow
from tests.conftest import World
from tests.support.straight_run import (
    CONFIG,
    TopicReader,
    assert_as_straight,
    measured_at,
    send_days,
    straight_run,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

DAYS = 1_500


def home_of(portfolio_id: str) -> int:
    return partition_of(portfolio_id.encode(), PARTITIONS)


def seen_or_over(count: int, end: int, portfolios: set[str]) -> Callable[[list[Record]], bool]:
    """Whether so many records are there, or all; on a busy machine few rounds do all the work."""
    is_over = measured_at(end, portfolios)
    return lambda records: len(records) >= count or is_over(records)


async def test_kill_minus_nine_in_mid_stream_changes_nothing(world: World) -> None:
    expected_measures, expected_alerts = straight_run(DAYS)
    end = max(at for _, at in expected_measures)
    portfolios = {name for name, at in expected_measures if at == end}

    async with TopicReader(world, "risk.measures", "risk.alerts") as reader:
        worker = await world.worker(batch_within_s=0.05, batch_records_max=3)
        async with asyncio.TaskGroup() as sending:
            sending.create_task(send_days(world, 0, DAYS))
            for seen in (15, 60, 150):
                await reader.until(seen_or_over(seen, end, portfolios))
                await worker.kill()
                worker = await world.worker(batch_within_s=0.05, batch_records_max=3)
        await reader.until(measured_at(end, portfolios))

    assert_as_straight(reader.records, expected_measures, expected_alerts)
    assert len(expected_alerts) > 5
    # A successor repeats no alert of a lost worker.
    transition_ids = [
        record.transition_id for record in reader.records if isinstance(record, RiskAlert)
    ]
    assert len(transition_ids) == len(set(transition_ids))


@pytest.mark.long
async def test_workers_are_restarted_one_after_the_other(world: World) -> None:
    expected_measures, expected_alerts = straight_run(DAYS)
    end = max(at for _, at in expected_measures)
    portfolios = {name for name, at in expected_measures if at == end}
    async with TopicReader(world, "risk.measures", "risk.alerts") as reader:
        workers = {
            name: await world.worker(worker_id=name, batch_within_s=0.05, batch_records_max=3)
            for name in ("one", "two")
        }
        async with asyncio.TaskGroup() as sending:
            sending.create_task(send_days(world, 0, DAYS))
            for name, seen in (("one", 15), ("two", 60)):
                await reader.until(seen_or_over(seen, end, portfolios))
                await workers[name].stop()
                workers[name] = await world.worker(
                    worker_id=name, batch_within_s=0.05, batch_records_max=3
                )
        await reader.until(measured_at(end, portfolios))
    assert_as_straight(reader.records, expected_measures, expected_alerts)


async def test_a_stopped_worker_has_the_state_of_each_measure_that_it_sent(world: World) -> None:
    """So that a successor with other settings goes on, and does not judge the same again."""
    names = (f"p{number}" for number in count())
    portfolios = list(islice((name for name in names if home_of(name) == 0), 300))
    async with TopicReader(world, "risk.measures") as reader:
        worker = await world.worker(batch_within_s=0.05, batch_records_max=1)
        async with Publisher(world.producer_settings) as publisher:
            for at in range(40):
                returns = [Return(name, at, 0.01 * (-1) ** at) for name in portfolios]
                await publisher.publish(ReturnBatch(returns=returns), partition=0)
        await reader.until(lambda records: len(records) > len(portfolios))
        await worker.stop()
    measures = await read_table(RISK_MEASURES, world.producer_settings)
    kept = await read_table(RISK_STATE, world.producer_settings)
    assert measures.keys() == {name.encode() for name in portfolios}
    for key, measure in measures.items():
        state = kept[key]
        assert isinstance(measure, RiskMeasure)
        assert isinstance(state, PortfolioState)
        assert state.offset == measure.source_offset


async def test_an_upgraded_worker_goes_on_from_what_the_first_version_left(world: World) -> None:
    """Its states knew neither partitions nor packed windows, and one rule only."""
    dice = np.random.default_rng(5)
    returns = [Return("p", at, float(value)) for at, value in enumerate(dice.normal(0, 0.03, 300))]
    risk = PortfolioRisk("p", CONFIG, TopicPartition("", 0))
    for offset, observation in enumerate(returns[:200]):
        risk.apply(observation, ReturnOffset(offset, 0))
    key, topic = b"p", world.topic("risk.state")
    async with Publisher(world.producer_settings) as publisher:
        home = await publisher.partition_for(PORTFOLIO_RETURNS, key)
        for observation in returns[:200]:
            await publisher.publish(ReturnBatch(returns=[observation]), partition=home)
    async with AIOKafkaProducer(bootstrap_servers=world.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, as_first_version(risk.pack()), key, partition=home)
    async with TopicReader(world, "risk.measures") as reader:
        await world.worker(batch_within_s=0.05)
        async with Publisher(world.producer_settings) as publisher:
            await ReturnsPublisher(publisher).send(returns[200:])
        records = await reader.until(
            lambda records: any(
                getattr(observation, "as_of_us", 0) == 299 for observation in records
            )
        )
    for offset, observation in enumerate(returns[200:], 200):
        risk.apply(observation, ReturnOffset(offset, 0))
    last, expected = records[-1], risk.measure_event()
    assert isinstance(last, RiskMeasure)
    assert expected is not None
    assert last.observations == 250
    for name in ("var_95", "es_95", "var_99", "es_99", "event_id"):
        assert getattr(last, name) == getattr(expected, name)


def as_first_version(state: PortfolioState) -> bytes:
    """A state as the first version of its schema had it."""
    times_us, values, kept = ReturnWindow.unpack(state.window, state.observations)
    datum = {
        "portfolio_id": state.portfolio_id,
        "offset": state.offset,
        "index": state.index,
        "times_us": list(times_us),
        "values": list(values),
        "versions": list(kept),
        "level": 0,
        "run": [],
        "run_up": True,
        "alert_id": None,
        "transitions": 0,
        "judged_us": None,
        "outcomes": dict(state.outcomes),
    }
    (first, *_) = versions("PortfolioState")
    schema, body = parse_schema(first), BytesIO()
    fastavro.schemaless_writer(body, schema, datum)
    mark = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return MARKER + bytes.fromhex(mark) + body.getvalue()


async def test_workers_share_the_portfolios_and_take_over_from_each_other(world: World) -> None:
    days = 900
    expected_measures, expected_alerts = straight_run(days)
    end = max(at for _, at in expected_measures)
    portfolios = {name for name, at in expected_measures if at == end}
    half = trading_days(load_prices())[449].at_close()[0].event_time_us

    async with TopicReader(world, "risk.measures", "risk.alerts") as reader:
        await world.worker(worker_id="one", batch_within_s=0.05)
        await send_days(world, 0, 300)
        second = await world.worker(worker_id="two", batch_within_s=0.05)
        await send_days(world, 300, 450)
        await reader.until(measured_at(half, portfolios))
        await second.stop()
        await send_days(world, 450, days)
        await reader.until(measured_at(end, portfolios))

    assert_as_straight(reader.records, expected_measures, expected_alerts)


async def test_what_cannot_be_read_goes_to_the_dead_letters_and_stops_nothing(
    world: World,
) -> None:
    await world.worker(batch_within_s=0.05)
    poison = b"\xc3\x01 this is no batch of returns"
    home, other = home_of("t"), (home_of("t") + 1) % PARTITIONS
    async with AIOKafkaProducer(bootstrap_servers=world.kafka.bootstrap_servers) as producer:
        for topic in ("portfolio.returns", "training.events"):
            await producer.send_and_wait(world.topic(topic), poison, b"key", partition=3)
        value = encode(training_progress("t", 1.0, "running", now_us=0))
        # No producer writes these: no key, a key that is no text, a tenant that is no text.
        for key, tenant in ((None, b"acme"), (b"\xff", b"\xff"), (b"t", None), (b"t", b"\xfe")):
            headers = [("tenant", tenant), ("ce_recordedtime", tenant)]
            await producer.send_and_wait(
                world.topic("training.events"), value, key, partition=home, headers=headers
            )
        await producer.send_and_wait(world.topic("training.events"), value, b"t", partition=other)
    returns = list(np.random.default_rng(1).normal(0, 0.02, 150))
    async with (
        Publisher(world.producer_settings) as publisher,
        TopicReader(world, "risk.measures", "dead.letters") as reader,
    ):
        await ReturnsPublisher(publisher).send(
            [
                Return(portfolio_id="p", event_time_us=at, value=nan if at == 50 else float(value))
                for at, value in enumerate(returns)
            ]
        )
        await reader.until(
            lambda records: (
                any(isinstance(record, RiskMeasure) for record in records)
                and sum(isinstance(record, DeadLetter) for record in records) >= 7
            )
        )
    letters = {
        (record.topic.removeprefix(world.prefix), record.reason): record
        for record in reader.records
        if isinstance(record, DeadLetter)
    }
    batch = letters["portfolio.returns", "undecodable"]
    assert (batch.partition, batch.offset, batch.key, batch.value) == (3, 0, b"key", poison)
    assert "no schema has the fingerprint" in batch.error
    assert letters["training.events", "undecodable"].partition == 3
    wrong = letters["training.events", "wrong_partition"]
    assert (wrong.partition, wrong.key) == (other, b"t")
    # Letters of two keys lie in two partitions, and either may be read first.
    misplaced = {
        record.offset: record.error
        for record in reader.records
        if isinstance(record, DeadLetter) and record.reason == "misplaced"
    }
    assert misplaced == {
        0: "the key is None; it must be b'acme\\xfft'",
    }
    unnamed = {
        record.offset
        for record in reader.records
        if isinstance(record, DeadLetter) and "its tenant is not UTF-8" in record.error
    }
    assert unnamed == {1, 3}
    refused = letters["portfolio.returns", "invalid"]
    assert refused.index == 50
    assert "the return of p is nan; it must be a finite number" in refused.error
    last = [record for record in reader.records if isinstance(record, RiskMeasure)][-1]
    assert last.observations == 149
    async with asyncio.timeout(60):
        while not (followed := await read_table(TRAINING_TASKS, world.producer_settings)):
            continue
    (story,) = followed.values()
    assert isinstance(story, StoryState)
    assert (story.subject, story.partition, story.tenant) == ("t", home, None)


async def test_dashboard_windows_count_every_alert_and_measure_once(world: World) -> None:
    await world.worker(dashboard_windows_s="0.5,5", dashboard_lateness_s=60)
    alerts = ("raised", "cleared", "escalated", "deescalated")
    counted = {"returns", "risk_measures", *(f"alerts_{state}" for state in alerts)}
    async with TopicReader(world, "risk.measures", "risk.alerts", "dashboard.updates") as reader:
        await send_days(world, 0, 800)

        def totals(records: list[Record], window_us: int = 500_000) -> dict[str, int]:
            newest = {
                record.window_id: record
                for record in records
                if isinstance(record, DashboardUpdate)
            }
            found: dict[str, int] = {}
            for update in newest.values():
                if update.window_id.endswith(f"+{window_us}"):
                    for name in counted & update.values.keys():
                        found[name] = found.get(name, 0) + int(update.values[name])
            return found

        def written(records: list[Record]) -> dict[str, int]:
            found: dict[str, int] = {}
            for record in records:
                if isinstance(record, RiskMeasure):
                    found["risk_measures"] = found.get("risk_measures", 0) + 1
                if isinstance(record, RiskAlert):
                    name = f"alerts_{record.state}"
                    found[name] = found.get(name, 0) + 1
            return found

        def done(records: list[Record]) -> bool:
            last = max(
                (record.as_of_us for record in records if isinstance(record, RiskMeasure)),
                default=0,
            )
            counted = totals(records)
            return last == end and counted.pop("returns", 0) == sent and counted == written(records)

        days = trading_days(load_prices())[:800]
        end, sent = days[-1].at_close()[0].event_time_us, sum(len(day.returns) for day in days)
        await reader.until(done)
        expected = totals(reader.records)
        # Measures of wide windows follow when their time has passed, and say the same.
        await reader.until(lambda records: totals(records, 5_000_000) == expected)
    assert expected["alerts_raised"] > 0
    last = [record for record in reader.records if isinstance(record, DashboardUpdate)][-1]
    newest = {
        record.portfolio_id: record for record in reader.records if isinstance(record, RiskMeasure)
    }
    utilisations = {
        name: item.utilisation for name, item in newest.items() if item.utilisation is not None
    }
    assert last.worst == utilisations
    assert last.values["portfolios"] == len(newest)
    assert last.values["portfolios_over_limit"] == sum(
        utilisation > 1 for utilisation in utilisations.values()
    )


async def test_limits_without_meaning_stop_the_worker_at_once(world: World) -> None:
    with pytest.raises(PartFailed, match="died with exit code"):
        await world.worker(var_limits="IBM=much")


async def test_topics_whose_times_are_those_of_producers_stop_the_worker_and_warn_the_edge(
    world: World,
) -> None:
    """Both name the command that mends it."""
    topic = world.topic(PORTFOLIO_RETURNS.name)
    resource = ConfigResource(
        ConfigResource.Type.TOPIC,
        topic,
        incremental_configs=[
            ConfigEntry(
                "message.timestamp.type",
                "CreateTime",
                incremental_operation=AlterConfigOpType.SET,
            )
        ],
    )
    admin = AdminClient({"bootstrap.servers": world.kafka.bootstrap_servers})
    for answer in admin.incremental_alter_configs([resource]).values():
        await asyncio.to_thread(answer.result, 30)
    with pytest.raises(PartFailed, match="died with exit code"):
        await world.worker()
    [log] = [path.read_text() for path in world.folder.glob("worker-*.log")]
    mended = f"--entity-name {topic} --add-config message.timestamp.type=LogAppendTime"
    assert f"this worker stops: {topic} has message.timestamp.type=CreateTime" in log
    assert mended in log
    edge = await world.edge()
    async with asyncio.timeout(30):
        while mended not in edge.process.log_path.read_text():  # noqa: ASYNC110  # a file notifies nobody
            await asyncio.sleep(0.05)  # the edge looks at its topics after it has started


async def test_a_worker_that_was_there_before_its_topics_waits_for_them(world: World) -> None:
    prefix = f"{world.prefix}late."
    await world.worker(topic_prefix=prefix, batch_within_s=0.05)
    await asyncio.to_thread(provision, world.kafka.bootstrap_servers, prefix=prefix)
    settings = world.producer_settings.model_copy(update={"topic_prefix": prefix})
    returns = [Return("p", at, 0.01 * (-1) ** at) for at in range(100)]
    async with Publisher(settings) as publisher:
        await ReturnsPublisher(publisher).send(returns)
    async with asyncio.timeout(60):
        while not await read_table(RISK_MEASURES, settings):
            continue


async def test_rows_of_strangers_in_a_state_are_passed_over(world: World) -> None:
    expected_measures, expected_alerts = straight_run(20)
    end = max(at for _, at in expected_measures)
    portfolios = {name for name, at in expected_measures if at == end}
    async with TopicReader(world, "risk.measures", "risk.alerts") as reader:
        worker = await world.worker(batch_within_s=0.05)
        await send_days(world, 0, 10)
        half = sorted({at for _, at in expected_measures})[9]
        await reader.until(measured_at(half, portfolios))
        await worker.stop()
        topic, home = world.topic("risk.state"), home_of("IBM")
        async with AIOKafkaProducer(bootstrap_servers=world.kafka.bootstrap_servers) as producer:
            for value in (b"nonsense", encode(training_progress("t", 1.0, "running", now_us=0))):
                await producer.send_and_wait(topic, value, b"IBM", partition=home)
            await producer.send_and_wait(topic, b"nonsense", b"nobody", partition=home)
        await world.worker(batch_within_s=0.05)
        await send_days(world, 10, 20)
        await reader.until(measured_at(end, portfolios))
    assert_as_straight(reader.records, expected_measures, expected_alerts)
