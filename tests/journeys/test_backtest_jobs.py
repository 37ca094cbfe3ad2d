"""Backtest jobs: asked for, followed from their start on any edge, cancelled, and run again."""

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.async_api import async_playwright
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from infra.demo_issuer import ISSUER, jwks_path, token
from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from kafka_io.reader import read_all
from producers.backtesting.strategies import simulate, statistics
from producers.market.prices import load_bars
from schemas.events import BacktestCommand, BacktestProgress, JobStep
from schemas.topics import BACKTEST_EVENTS
from tests.conftest import Started, World
from tests.support.clients import stream
from tests.support.sse import Block

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

JOBS = "/api/backtesting/jobs"
LAST = ("completed", "failed", "cancelled")
WANTED: dict[str, Any] = {
    "symbol": "IBM",
    "strategy": "moving_average_crossover",
    "parameters": {"fast": 10, "slow": 50},
    "start_date": "2005-01-01",
    "end_date": "2009-12-31",
}


class System:
    """Two edges, and what a job needs."""

    def __init__(self, world: World, first: Started, second: Started) -> None:
        self.world, self.first, self.second = world, first, second

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Ask the first edge."""
        async with httpx.AsyncClient(base_url=self.first.url, timeout=30) as client:
            return (await client.request(method, path, json=body)).raise_for_status().json()

    async def ask(self, **wanted: object) -> str:
        """Ask for a backtest; the job's id."""
        return str((await self.call("POST", JOBS, WANTED | wanted))["job_id"])

    async def story(self, edge: Started, job_id: str, **how: Any) -> list[Block]:
        """A job's story to its end."""
        async with stream(edge.url, f"/api/sse/backtest/{job_id}", **how) as client:
            return await client.to_event(*LAST)


@pytest.fixture
async def system(world: World) -> System:
    async with asyncio.TaskGroup() as starting:
        first, second = starting.create_task(world.edge()), starting.create_task(world.edge())
        starting.create_task(world.worker())
    return System(world, first.result(), second.result())


def events_of(blocks: list[Block]) -> list[tuple[str, Any]]:
    return [(block.event, block.json) for block in blocks if block.event]


async def steps_in_the_log(world: World, job_id: str) -> list[tuple[str, float]]:
    """Kind and progress of each step of a job, by a straight reading of its topic."""
    return [
        (record.job.kind, record.progress)
        for record in await read_all(BACKTEST_EVENTS, world.producer_settings)
        if isinstance(record, BacktestProgress)
        and record.backtest_id == job_id
        and record.job is not None
    ]


async def test_a_job_is_run_and_its_events_are_streamed_from_the_start(system: System) -> None:
    job_id = await system.ask()
    await system.world.backtester()
    live = events_of(await system.story(system.first, job_id))
    late = events_of(await system.story(system.second, job_id))

    assert [name for name, _ in live[:2]] == ["connection", "progress"]
    assert live[1][1]["status"] == "pending"
    assert live[1:] == late[1:]
    assert live[-1][0] == "completed"
    logged = await steps_in_the_log(system.world, job_id)
    assert [name for name, _ in live[1:]] == [
        "progress" if kind == "submitted" else kind for kind, _ in logged
    ]
    assert [data["progress"] for name, data in live[1:] if name == "progress"] == [
        progress for kind, progress in logged if kind in ("submitted", "progress")
    ]
    summary = live[-1][1]["result_summary"]
    series = [bar for bar in load_bars()["IBM"] if "2005-01-01" <= bar.time <= "2009-12-31"]
    expected = simulate(
        np.array([bar.open for bar in series]),
        np.array([bar.close for bar in series]),
        WANTED["strategy"],
        WANTED["parameters"],
        0.001,
    )
    for name, value in statistics(expected, 252).items():
        assert summary[name] == pytest.approx(value)
    assert (summary["fill"], summary["commission"], summary["slippage"]) == ("next_open", 0.001, 0)
    assert summary["equity_curve"][-1]["value"] == pytest.approx(
        10_000 * float(expected.capital[-1]), abs=0.01
    )
    orders = [
        transaction
        for name, data in live
        if name == "transaction"
        for transaction in data["transactions"]
    ]
    assert len(orders) == summary["number_of_trades"]
    assert [order["side"] for order in orders[:2]] == ["buy", "sell"]
    bars = [data["current_bar"] for name, data in live if name == "progress"][1:]
    assert bars == sorted(bars)
    assert bars[-1] == len(series)

    # Whoever has heard the end finds it in the list, on any edge.
    (listed,) = await system.call("GET", f"{JOBS}?status_filter=completed")
    assert (listed["status"], listed["progress"]) == ("completed", 100.0)
    assert listed["result_summary"] == summary
    (past,) = await system.call("GET", "/api/backtesting/history")
    assert past["id"] == past["backtest_id"] == job_id
    # MyStocks clients see the same run as they know it.
    path = f"/api/v1/sse/backtest?backtest_id={job_id}&from=earliest"
    async with httpx.AsyncClient(base_url=system.first.url, timeout=60) as http:
        text = (await http.get(path, headers={"Accept": "text/event-stream"})).text
    last = json.loads([line for line in text.splitlines() if line.startswith("data: ")][-1][6:])
    assert last["data"]["status"] == "completed"
    assert last["data"]["results"]["total_return"] == pytest.approx(summary["total_return"])


@pytest.mark.long
async def test_streams_stay_open_after_their_last_event_and_make_room_for_others(
    world: World,
) -> None:
    edge, brief = await world.edge(connections_per_ip_max=2), await world.edge(ended_open_s=1)
    await world.worker()
    system = System(world, edge, brief)
    job_id = await system.ask()
    path = f"/api/sse/backtest/{job_id}"
    async with AsyncExitStack() as held:
        # The chart is opened before the job has bars, and waits for them.
        chart = await held.enter_async_context(stream(edge.url, f"{path}/data"))
        job = await held.enter_async_context(stream(edge.url, path))
        await job.until(lambda blocks: len(blocks) >= 2)
        async with httpx.AsyncClient(base_url=edge.url) as http:
            assert (await http.get(path)).status_code == 429
        await world.backtester()
        assert (await chart.to_event("complete"))[0].event == "interval_start"
        await job.to_event(*LAST)
        # The chart ended first, so it gives way to a new stream, and the job does not.
        late = await held.enter_async_context(stream(edge.url, path))
        await late.to_event(*LAST)
        await chart.to_end()
        async with httpx.AsyncClient(base_url=edge.url) as http:
            # A client that comes back at the end takes no place, and no stream gives way to it.
            answer = await http.get(path, headers={"Last-Event-ID": job.last_id})
            assert answer.status_code == 204
            assert "tapewire_ended_streams 2.0" in (await http.get("/metrics")).text
        async with stream(brief.url, path) as other, stream(brief.url, f"{path}/data") as bars:
            await other.to_end()
            await bars.to_end()
        for client, url in ((job, path), (chart, f"{path}/data")):
            headers = {"Last-Event-ID": client.last_id}
            async with stream(brief.url, url, headers=headers) as over:
                assert over.response.status_code == 204


async def test_a_job_is_cancelled_in_mid_run_then_removed(system: System) -> None:
    await system.world.backtester(backtest_step_pause_s=0.3)
    job_id = await system.ask()
    async with stream(system.first.url, f"/api/sse/backtest/{job_id}") as client:
        await client.until(
            lambda blocks: any("simulating" in (block.data or "") for block in blocks)
        )
        assert await system.call("DELETE", f"{JOBS}/{job_id}") == {
            "job_id": job_id,
            "status": "cancelling",
        }
        blocks = await client.to_event(*LAST)
    assert events_of(blocks)[-1][0] == "cancelled"
    (cancelled,) = await system.call("GET", f"{JOBS}?status_filter=cancelled")
    assert cancelled["job_id"] == job_id
    assert await system.call("GET", f"{JOBS}?status_filter=completed") == []
    assert (await system.call("DELETE", f"{JOBS}/{job_id}"))["status"] == "removed"
    assert await system.call("GET", JOBS) == []


async def test_the_bars_of_a_job_come_in_chunks_and_are_resumed(system: System) -> None:
    job_id = await system.ask(start_date="2009-01-01")
    await system.world.backtester()
    await system.story(system.first, job_id)
    path = f"/api/sse/backtest/{job_id}/data"
    everything: Any = {"interval": "day", "limit": 1_000_000, "chunk_size": 1_000_000}
    async with stream(system.first.url, path, **everything) as many:
        blocks = await many.to_event("complete")
    assert blocks[-1].json == {"total_points": 252}
    assert all(len(block.raw) < 64 << 10 for block in blocks)
    wanted: Any = {"interval": "day", "limit": 100, "chunk_size": 40}
    async with stream(system.first.url, path, **wanted) as whole:
        blocks = await whole.to_event("complete")
    assert [block.event for block in blocks] == ["interval_start", *["data_chunk"] * 3, "complete"]
    assert blocks[0].json == {"interval": "day", "total_points": 100}
    assert [block.json["points_sent"] for block in blocks[1:4]] == [40, 80, 100]
    points = [point for block in blocks[1:4] for point in block.json["data_points"]]
    series = [bar for bar in load_bars()["IBM"] if "2009-01-01" <= bar.time <= "2009-12-31"]
    assert [bar["time"] for bar in points] == [bar.time for bar in series[-100:]]
    assert [bar["close"] for bar in points] == [bar.close for bar in series[-100:]]
    assert all(bar["low"] <= bar["close"] <= bar["high"] for bar in points)
    # Who has the first chunk only gets the rest on the other edge.
    headers = {"Last-Event-ID": str(blocks[1].id)}
    async with stream(system.second.url, path, headers=headers, **wanted) as rest:
        more = await rest.to_event("complete")
    assert [item.json for item in more] == [block.json for block in blocks[2:]]
    headers = {"Last-Event-ID": str(blocks[3].id)}
    async with stream(system.second.url, path, headers=headers, **wanted) as last:
        assert [item.event for item in await last.to_event("complete")] == ["complete"]
    headers = {"Last-Event-ID": str(blocks[-1].id)}
    async with stream(system.second.url, path, headers=headers, **wanted) as over:
        assert over.response.status_code == 204
    async with stream(system.second.url, path, interval="minute") as other:
        start, end = await other.to_event("complete")
    assert start.json == {"interval": "minute", "total_points": 0}
    assert end.json == {"total_points": 0, "note": "this job has no minute bars; it has: day"}
    async with httpx.AsyncClient(base_url=system.first.url, timeout=30) as http:
        for query in ("limit=10&chunk_size=11", "interval=hour", "limit=0"):
            assert (await http.get(f"{path}?{query}")).status_code == 400
        assert (await http.get(path, headers={"Last-Event-ID": "x"})).status_code == 400
        assert (await http.get("/api/sse/backtest/nothing/data")).status_code == 404


async def heard(url: str) -> tuple[list[Any], int | None]:
    """What a WebSocket says to its end, and the code that it is closed with."""
    async with connect(url.replace("http://", "ws://")) as socket:
        messages: list[Any] = []
        with suppress(ConnectionClosedError):
            messages.extend([json.loads(message) async for message in socket])
    return messages, socket.close_code


async def test_a_websocket_tells_the_same_story(system: System, tmp_path: Any) -> None:
    job_id = await system.ask()
    async with asyncio.TaskGroup() as both:
        listening = both.create_task(heard(f"{system.second.url}/ws/backtest/{job_id}?token="))
        await system.world.backtester()
    messages, code = listening.result()
    assert code == 1000
    streamed = await system.story(system.first, job_id)
    assert [(event["type"], event.get("id")) for event in messages[1:]] == [
        (item.event, item.id) for item in streamed[1:] if item.data
    ]
    assert messages[-1]["result_summary"] == streamed[-1].json["result_summary"]
    rest, _ = await heard(
        f"{system.first.url}/ws/backtest/{job_id}?last_event_id={messages[-2]['id']}"
    )
    assert [event["type"] for event in rest] == ["connection", "completed"]
    over = f"{system.first.url}/ws/backtest/{job_id}?last_event_id={messages[-1]['id']}"
    assert await heard(over) == ([], 1000)
    assert (await heard(f"{system.first.url}/ws/backtest/nothing"))[1] == 4404
    strict = await system.world.edge(jwt_issuer=ISSUER, jwt_jwks=jwks_path(tmp_path))
    path = f"{strict.url}/ws/backtest/{job_id}"
    assert (await heard(path))[1] == 4401
    # A job that was made without a token is everybody's of its tenant.
    assert (await heard(f"{path}?token={token(tmp_path, 'eve', None, 60)}"))[1] == 1000
    assert (await heard(f"{path}?token={token(tmp_path, 'eve', 'other', 60)}"))[1] == 4404


async def test_a_live_list_shows_what_the_polled_one_does(system: System) -> None:
    first_job = await system.ask(symbol="AAPL")
    query: Any = {"status_filter": "pending", "limit": 2}
    async with stream(system.second.url, "/api/sse/backtest/jobs", **query) as pending:
        (snapshot,) = await pending.events("snapshot", 1)
        assert [job["job_id"] for job in snapshot.json["jobs"]] == [first_job]
        second_job, third_job = await system.ask(symbol="MSFT"), await system.ask(symbol="IBM")
        await pending.events("job_added", 2)
        # There is room for two: the oldest has made room.
        (pushed_out,) = await pending.events("job_removed", 1)
        assert pushed_out.json == {"job_id": first_job}
        await system.world.backtester()
        await pending.events("job_removed", 3)
        last_id = pending.last_id
    async with stream(system.first.url, "/api/sse/backtest/history") as past:
        (snapshot,) = await past.events("snapshot", 1)
        shown = {backtest["id"] for backtest in snapshot.json["backtests"]}
        added = await past.events("backtest_added", 3 - len(shown))
        shown |= {item.json["backtest"]["backtest_id"] for item in added}
        assert shown == {first_job, second_job, third_job}
    # On another node the list is there again, with what has happened meanwhile.
    headers = {"Last-Event-ID": last_id}
    async with stream(system.first.url, "/api/sse/backtest/jobs", headers=headers) as again:
        (snapshot,) = await again.events("snapshot", 1)
    polled = await system.call("GET", JOBS)
    assert snapshot.json["jobs"] == polled
    assert [item["job_id"] for item in polled] == [third_job, second_job, first_job]
    assert {item["status"] for item in polled} == {"completed"}
    await system.call("DELETE", f"{JOBS}/{second_job}")
    polled = await system.call("GET", JOBS)
    assert [item["job_id"] for item in polled] == [third_job, first_job]
    async with stream(system.first.url, "/api/sse/backtest/jobs", limit=1) as short:
        (snapshot,) = await short.events("snapshot", 1)
        assert [job["job_id"] for job in snapshot.json["jobs"]] == [third_job]
        await system.call("DELETE", f"{JOBS}/{third_job}")
        await short.events("job_added", 1)
    names = [(block.event, block.json) for block in short.blocks if block.event][2:]
    assert names[0] == ("job_removed", {"job_id": third_job})
    assert (names[1][0], names[1][1]["job"]["job_id"]) == ("job_added", first_job)


async def test_a_worker_is_killed_and_another_ends_the_job_once(system: System) -> None:
    lost = await system.world.backtester(backtest_step_pause_s=0.3)
    job_id = await system.ask()
    path = f"/api/sse/backtest/{job_id}"
    async with stream(system.first.url, path) as client:
        blocks = await client.until(
            lambda seen: sum("simulating" in (record.data or "") for record in seen) >= 2
        )
        last_id = client.last_id
    await lost.kill()
    await system.world.backtester()
    rest = await system.story(system.second, job_id, headers={"Last-Event-ID": last_id})
    story = events_of(blocks) + events_of(rest)
    attempts = [data["attempt"] for name, data in story if name != "connection"]
    assert attempts == sorted(attempts)
    assert attempts[-1] == 2
    assert [name for name, _ in story if name in ("completed", "failed")] == ["completed"]


@pytest.mark.parametrize("afterwards", ["removed", "cancel_requested"])
async def test_a_job_that_has_ended_is_not_run_again(system: System, afterwards: str) -> None:
    """Its worker was lost before it could acknowledge; and an event followed the end."""

    def step(job_id: str, kind: str) -> BacktestProgress:
        job = JobStep(kind=kind, symbol="IBM", strategy="buy_and_hold")
        time_us = now_us()
        return BacktestProgress(
            backtest_id=job_id,
            progress=0.0,
            status="running",
            message="",
            results={},
            event_time_us=time_us,
            job=job,
        )

    def command(job_id: str) -> BacktestCommand:
        return BacktestCommand(
            job_id=job_id,
            symbol="IBM",
            strategy="buy_and_hold",
            parameters={},
            cost=0.0,
            initial_cash=1.0,
            event_time_us=now_us(),
        )

    async with Publisher(system.world.producer_settings) as publisher:
        for kind in ("submitted", "completed", afterwards):
            await publisher.publish(step("over", kind))
        await publisher.publish(step("next", "submitted"))
        # One after the other, in one partition: when the second has ended, the first was seen.
        for job_id in ("over", "next"):
            await publisher.publish(command(job_id), partition=0)
    await system.world.backtester()
    assert events_of(await system.story(system.first, "next"))[-1][0] == "completed"

    kinds = [kind for kind, _ in await steps_in_the_log(system.world, "over")]
    assert kinds == ["submitted", "completed", afterwards]


async def test_a_browser_follows_a_job(system: System, chromium: str) -> None:
    job_id = await system.ask(strategy="rsi", parameters={})
    await system.world.backtester()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"{system.first.url}/health/live")
        seen = await page.evaluate(
            """jobId => new Promise(done => {
                const seen = {transactions: 0, progress: []};
                const eventSource = new EventSource(`/api/sse/backtest/${jobId}?token=`);
                eventSource.addEventListener('progress', (e) => {
                    seen.progress.push(JSON.parse(e.data).progress);
                });
                eventSource.addEventListener('transaction', (e) => {
                    seen.transactions += JSON.parse(e.data).transactions.length;
                });
                eventSource.addEventListener('completed', (e) => {
                    seen.result = JSON.parse(e.data).result_summary;
                    eventSource.close();
                    done(seen);
                });
            })""",
            job_id,
        )
        await browser.close()
    assert seen["progress"] == sorted(seen["progress"])
    assert seen["transactions"] == seen["result"]["number_of_trades"]


async def test_a_job_that_cannot_run_is_refused_at_once_and_names_may_be_in_any_case(
    system: System,
) -> None:
    wrong: list[tuple[dict[str, object], str, str]] = [
        ({"symbol": "XYZ"}, "symbol", "there are no prices of XYZ; there are AAPL"),
        ({"interval": "minute"}, "interval", "IBM has no minute bars; it has: day"),
        ({"parameters": {"fast": 200}}, "parameters", "fast must be less than slow"),
        ({"strategy": "rsi", "parameters": {"period": -1}}, "parameters", "period is -1"),
        ({"strategy": "rsi", "period": -1}, "period", 'write "parameters": {"period": ...}'),
        ({"start_date": "2030-01-01", "end_date": None}, "start_date", "its prices are from"),
        ({"start_date": "2005-13-01"}, "start_date", "is no day such as 2008-10-10"),
        ({"start_date": "2009-01-01", "end_date": "2008-01-01"}, "start_date", "is after end_date"),
    ]
    async with httpx.AsyncClient(base_url=system.first.url, timeout=30) as http:
        for wanted, parameter, why in wrong:
            answer = await http.post(JOBS, json=WANTED | wanted)
            assert answer.status_code == 400, wanted
            assert answer.json()["parameter"] == parameter
            assert why in answer.json()["detail"]
    asked = {"symbol": "ibm", "strategy": "RSI", "interval": "Day", "fill": "Close", "user_id": 7}
    job = await system.call("POST", JOBS, asked)
    assert (job["symbol"], job["status"]) == ("IBM", "pending")
    assert await system.call("GET", JOBS) == [job]


async def test_bad_requests_and_strangers_are_refused_with_the_reason(
    world: World, tmp_path: Any
) -> None:
    settings = {"jwt_issuer": ISSUER, "jwt_jwks": jwks_path(tmp_path)}
    edge = await world.edge(**settings)
    await world.worker()
    alice = {"Authorization": f"Bearer {token(tmp_path, 'alice', None, 60)}"}
    bob = {"Authorization": f"Bearer {token(tmp_path, 'bob', None, 60)}"}
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        for body, named in (
            ({"symbol": ""}, "symbol"),
            ({"symbol": "IBM", "strategy": "magic"}, "strategy"),
            ({"symbol": "IBM", "cost": 2}, "cost"),
            ({"symbol": "IBM", "slippage": 1}, "slippage"),
            ({"symbol": "IBM", "fill": "yesterday"}, "fill"),
            ({"symbol": "IBM", "start_date": "yesterday"}, "start_date"),
        ):
            answer = await http.post(JOBS, json=body, headers=alice)
            assert (answer.status_code, named in answer.text) == (400, True)
        assert (await http.head("/api/sse/backtest/jobs", headers=alice)).status_code == 200
        unfit = alice | {"Accept": "application/json"}
        assert (await http.get("/api/sse/backtest/jobs", headers=unfit)).status_code == 406
        assert (await http.get("/api/sse/backtest/jobs")).status_code == 401
        bad = alice | {"Last-Event-ID": "nonsense"}
        assert (await http.get("/api/sse/backtest/jobs", headers=bad)).status_code == 400
        for query in ("limit=0", "limit=10001", "status_filter=odd"):
            answer = await http.get(f"{JOBS}?{query}", headers=alice)
            assert (answer.status_code, query.split("=")[0] in answer.text) == (400, True)
        job_id = (await http.post(JOBS, json=WANTED, headers=alice)).json()["job_id"]
        path = f"/api/sse/backtest/{job_id}"
        assert (await http.get(path)).status_code == 401
        assert (await http.get(path, headers=bob)).status_code == 404
        assert (await http.delete(f"{JOBS}/{job_id}", headers=bob)).status_code == 404
        assert (await http.get(f"{JOBS}", headers=bob)).json() == []
        assert (await http.get("/api/sse/backtest/nothing", headers=bob)).status_code == 404
