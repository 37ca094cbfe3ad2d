import asyncio
import time
from collections.abc import Sequence
from itertools import islice, pairwise

import pytest
from aiokafka import AIOKafkaProducer

from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from kafka_io.reader import read_all
from producers.demo import replay
from producers.market.prices import ReplayedDay, laps, load_prices, trading_days
from producers.returns import ReturnsPublisher
from schemas.codec import encode
from schemas.events import (
    PortfolioState,
    Return,
    ReturnBatch,
    RiskMeasure,
    TrainingProgress,
)
from schemas.gate import paced_max
from schemas.topics import (
    DEAD_LETTERS,
    PORTFOLIO_RETURNS,
    RISK_MEASURES,
    RISK_STATE,
    TRAINING_EVENTS,
)
from tests.conftest import World
from tests.support.straight_run import TopicReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def days_of(world: World) -> list[int]:
    batches = await read_all(PORTFOLIO_RETURNS, world.producer_settings)
    return sorted(
        {
            value.event_time_us
            for batch in batches
            if isinstance(batch, ReturnBatch)
            for value in batch.returns
            if value.portfolio_id == "IBM"
        }
    )


async def returns_of(world: World, portfolio: str) -> list[tuple[int, int]]:
    """Return the lap and the time of each return of a portfolio, in the log's order."""
    return [
        (batch.lap, value.event_time_us)
        for batch in await read_all(PORTFOLIO_RETURNS, world.producer_settings)
        if isinstance(batch, ReturnBatch)
        for value in batch.returns
        if value.portfolio_id == portfolio
    ]


async def replay_until(world: World, days: int) -> list[int]:
    """Run the demo until the log has so many days; return the days."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(replay.run(world.producer_settings, speed=200, stop=stop))
        while len(await returns_of(world, "IBM")) < days:
            pass
        stop.set()
    return await days_of(world)


async def test_a_restarted_demo_continues_after_the_last_day_of_the_log(world: World) -> None:
    first = await replay_until(world, 40)
    second = await replay_until(world, len(await days_of(world)) + 40)
    assert second[: len(first)] == first
    gaps_us = [later - earlier for earlier, later in pairwise(second)]
    assert max(gaps_us) <= 8 * 86_400_000_000  # September 2001 has the longest closure


async def write(world: World, days: Sequence[ReplayedDay]) -> None:
    """Write replayed days as the demo does."""
    async with Publisher(world.producer_settings) as publisher:
        returns = ReturnsPublisher(publisher)
        for lap, day in days:
            await returns.send(day.at_close(), lap=lap)


@pytest.mark.parametrize("lap", [1, 100, 10_000])
@pytest.mark.parametrize("is_over", [True, False])
async def test_the_replay_goes_on_after_years(world: World, lap: int, is_over: bool) -> None:  # noqa: FBT001  # a parameter
    """With the next day of the data, and with the next lap after the last day.

    In the middle of a lap, the youngest portfolio's last returns are those of the lap before.
    """
    days = trading_days(load_prices())
    end = [ReplayedDay(lap - 1, day) for day in days[-2:]]
    middle = [ReplayedDay(lap, day) for day in days[:60]]
    await write(world, end if is_over else [*end, *middle])
    async with Publisher(world.producer_settings) as publisher:  # others write beside the demo
        stranger = [Return(f"pension-{number}", 10**15, 0.01) for number in range(20)]
        await ReturnsPublisher(publisher).send(stranger)
    before = len(await returns_of(world, "IBM"))
    await replay_until(world, before + 40)
    found = await returns_of(world, "IBM")
    last = end[-1] if is_over else middle[-1]
    following = laps(days, after=(last.lap, last.day.day))
    expected = [
        (replayed.lap, replayed.day.at_close()[0].event_time_us)
        for replayed in islice(following, len(found) - before)
    ]
    assert found[before:] == expected
    assert {item[0] for item in expected} == {lap}


@pytest.mark.parametrize("lap", [1, 10_000])
async def test_after_years_portfolios_are_measured_and_nothing_is_refused(
    world: World, lap: int
) -> None:
    days = trading_days(load_prices())
    await world.worker(batch_within_s=0.05, risk_observations_min=10)
    before = [ReplayedDay(lap - 1, day) for day in days[-20:]]
    first_us = before[0].day.at_close()[0].event_time_us
    await write(world, before)
    async with TopicReader(world, RISK_MEASURES.name) as reader:
        await replay_until(world, 40)
        await reader.until(
            lambda records: any(
                isinstance(measure, RiskMeasure)
                and measure.portfolio_id == "IBM"
                and measure.observations >= 20
                and measure.as_of_us < first_us  # of the next lap, however far the demo is by now
                for measure in records
            )
        )
    assert await read_all(DEAD_LETTERS, world.producer_settings) == []


async def test_a_topic_of_returns_that_was_made_anew_is_continued_with_the_next_lap(
    world: World,
) -> None:
    """The states know a lap, and take none of its days again."""
    state = PortfolioState(portfolio_id="IBM", offset=0, index=0, window=b"", outcomes={}, lap=7)
    async with AIOKafkaProducer(bootstrap_servers=world.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(world.topic(RISK_STATE.name), encode(state), b"IBM")
    await replay_until(world, 5)
    assert (await returns_of(world, "IBM"))[0] == (
        8,
        trading_days(load_prices())[0].at_close()[0].event_time_us,
    )


@pytest.mark.parametrize("is_running", [True, False])
async def test_no_lap_that_others_write_blocks_the_replay(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    is_running: bool,  # noqa: FBT001  # a parameter
) -> None:
    """The highest lap that is taken is followed by a higher one; beyond it, none is taken."""
    days = trading_days(load_prices())[-40:]
    monkeypatch.setattr(replay, "trading_days", lambda _: days)
    monkeypatch.setattr(replay, "LOOK_S", 0.0)
    await world.worker(batch_within_s=0.05)
    await write(world, [ReplayedDay(0, day) for day in days[:20]])
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        if is_running:
            tasks.create_task(replay.run(world.producer_settings, speed=20, stop=stop))
            while len(await returns_of(world, "IBM")) < 25:
                pass
        forged = paced_max(now_us()) - 5
        for lap in (forged, 2**31 - 1):
            await write(world, [ReplayedDay(lap, days[30])])
        if not is_running:
            tasks.create_task(replay.run(world.producer_settings, speed=20, stop=stop))
        async with TopicReader(world, RISK_STATE.name) as reader:
            await reader.until(
                lambda records: any(
                    isinstance(state, PortfolioState)
                    and state.portfolio_id == "IBM"
                    and state.lap > forged
                    for state in records
                )
            )
        stop.set()
    letters = await read_all(DEAD_LETTERS, world.producer_settings)
    assert {getattr(letter, "reason", "") for letter in letters} == {"invalid"}
    assert all("lap is 2147483647" in getattr(letter, "error", "") for letter in letters)


async def test_a_replay_that_was_asleep_goes_on_at_its_speed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not write the days that it has missed all at once."""
    clock = Clock()
    monkeypatch.setattr("producers.demo.replay.monotonic", clock)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(replay.run(world.producer_settings, speed=200, stop=stop))
        while len(await days_of(world)) < 5:
            pass
        clock.ahead_s = 8 * 3600.0
        woken = len(await days_of(world))
        while len(found := await days_of(world)) < woken + 5:
            pass
        stop.set()
    assert len(found) < woken + 60 * 200


class Clock:
    """A monotonic clock that may leap ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


async def test_an_interrupted_run_is_reported_as_failed(world: World) -> None:
    await replay_until(world, 10)
    events = [
        event
        for event in await read_all(TRAINING_EVENTS, world.producer_settings)
        if isinstance(event, TrainingProgress)
    ]
    assert events[0].status == "started"
    assert (events[-1].status, events[-1].message) == (
        "failed",
        "stopped before its end, with the demo",
    )
