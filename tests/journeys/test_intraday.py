"""Real trades become candles, and backtests run on them."""

import asyncio
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer

from infra.settings import InfraSettings
from infra.trades_package import trades_jar
from producers.market.trades import batches, read_trades
from schemas.codec import decode
from schemas.events import Candle
from stream_processors.windowing.candles import SymbolCandles
from tests.conftest import World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

NOW_US = 10**16
"""A time in the log, long after that of the trades."""
JOBS = "/api/backtesting/jobs"


async def read(world: World, topic: str, wanted: int) -> list[Candle]:
    """A topic's candles, each once, as soon as there are so many."""
    consumer = AIOKafkaConsumer(
        world.topic(topic),
        bootstrap_servers=world.kafka.bootstrap_servers,
        auto_offset_reset="earliest",
    )
    found: dict[str, Candle] = {}
    async with consumer, asyncio.timeout(90):
        while len(found) < wanted:
            for many in (await consumer.getmany(timeout_ms=1000)).values():
                for item in many:
                    candle = decode(item.value)
                    assert isinstance(candle, Candle)
                    assert found.setdefault(candle.event_id, candle) == candle
    return list(found.values())


def expected() -> list[Candle]:
    symbol = SymbolCandles("BTC-USD")
    trades = read_trades(trades_jar(InfraSettings().maven_url))
    return [candle for batch in batches(trades) for candle in symbol.apply(batch, NOW_US).closed]


@pytest.mark.long
async def test_a_worker_that_is_killed_makes_the_same_candles(world: World) -> None:
    candles = expected()
    worker = await world.worker()
    market = await world.market()
    await read(world, "market.candles", 100)
    await worker.kill()
    await market.kill()
    await world.worker()
    await world.market()
    assert await read(world, "market.candles", len(candles)) == candles


async def run(edge: str, **wanted: object) -> str:
    async with httpx.AsyncClient(base_url=edge, timeout=30) as http:
        answer = await http.post(JOBS, json=wanted)
        job_id = str(answer.raise_for_status().json()["job_id"])
    async with stream(edge, f"/api/sse/backtest/{job_id}") as client:
        await client.to_event("completed", "failed")
    return job_id


async def bars(edge: str, job_id: str, interval: str) -> list[Any]:
    path = f"/api/sse/backtest/{job_id}/data"
    async with stream(edge, path, interval=interval, limit=10_000, chunk_size=700) as client:
        blocks = await client.to_event("complete", "error")
    return [(block.event, block.json) for block in blocks if block.event]


async def test_a_backtest_runs_on_minutes_and_charts_show_every_width(world: World) -> None:
    candles = expected()
    edge, other = await world.edge(), await world.edge()
    await world.worker()
    await world.market()
    await world.backtester()
    there = await read(world, "market.candles", len(candles))

    wanted = {"symbol": "BTC-USD", "interval": "minute", "strategy": "rsi", "parameters": {}}
    days = {"start_date": "2013-11-26", "end_date": "2013-11-28"}
    job_id = await run(edge.url, **wanted, **days)
    for interval in ("minute", "3minute", "day"):
        *events, (last, total) = await bars(other.url, job_id, interval)
        points = [
            point for name, data in events if name == "data_chunk" for point in data["data_points"]
        ]
        of_days = [
            (item.open, item.high, item.low, item.close, item.volume)
            for item in there
            if item.interval == interval
            and 1_385_424_000_000_000 <= item.start_us < 1_385_683_200_000_000
        ]
        assert [
            (
                bar["open"],
                bar["high"],
                bar["low"],
                bar["close"],
                bar["volume"],
            )
            for bar in points
        ] == of_days
        assert (last, total) == ("complete", {"total_points": len(points)})
    (listed,) = await ended(edge.url, "completed", 1)
    assert listed["result_summary"]["interval"] == "minute"
    assert listed["result_summary"]["trades"] > 0

    on_days = await run(edge.url, symbol="IBM", strategy="buy_and_hold")
    _, (name, data) = await bars(edge.url, on_days, "3minute")
    assert name == "complete"
    assert data == {"total_points": 0, "note": "this job has no 3minute bars; it has: day"}
    # A job on wide bars has those of the finest interval too.
    on_days = await run(edge.url, **wanted | {"interval": "day"}, **days)
    for interval in ("minute", "3minute", "day"):
        assert await bars(edge.url, on_days, interval) == await bars(edge.url, job_id, interval)


async def ended(edge: str, status: str, count: int) -> list[Any]:
    """An edge's list of jobs that have ended so, as soon as there are so many."""
    async with httpx.AsyncClient(base_url=edge, timeout=30) as http, asyncio.timeout(60):
        while True:
            answer = await http.get(JOBS, params={"status_filter": status})
            found: list[Any] = answer.raise_for_status().json()
            if len(found) >= count:
                return found
