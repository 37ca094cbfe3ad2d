"""What an edge has accepted can be followed at once, also while all processors are away."""

import asyncio

import httpx
import pytest

from tests.conftest import World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

JOBS = "/api/backtesting/jobs"


async def test_jobs_and_tasks_are_followed_without_a_processor(world: World) -> None:
    async with asyncio.TaskGroup() as starting:
        edge = starting.create_task(world.edge(processor_patience_s=0.2))
        starting.create_task(world.backtester())
    url = edge.result().url
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        training = {"meter_id": "m", "meter_type": "gas"}
        task_id = (await http.post("/trainmodel/", json=training)).json()["task_id"]
        job_id = (await http.post(JOBS, json={"symbol": "IBM"})).json()["job_id"]

        assert (await http.get(f"/trainmodel/status/{task_id}")).json()["status"] == "PENDING"
        async with stream(url, f"/trainmodel/stream/{task_id}") as client:
            blocks = await client.until(lambda blocks: any(block.data for block in blocks))
            assert next(block.json for block in blocks if block.data)["status"] == "PENDING"
        async with stream(url, f"/api/sse/backtest/{job_id}") as client:
            blocks = await client.to_event("completed")
        events = [block for block in blocks if block.event]
        assert [block.event for block in events[:2]] == ["connection", "progress"]
        assert events[1].json["status"] == "pending"
        async with stream(url, f"/api/sse/backtest/{job_id}/data", limit=10) as client:
            points = (await client.to_event("complete"))[-1].json["total_points"]
            assert points == 10
        for path in (f"/api/sse/backtest/{task_id}", f"/trainmodel/stream/{job_id}"):
            assert (await http.get(path)).status_code == 404

        await world.worker()
        while (await http.delete(f"{JOBS}/{job_id}")).json()["status"] != "removed":
            continue  # the processor has not seen the job's end yet
        async with asyncio.timeout(60):
            while (await http.get(JOBS)).json():
                continue
        assert (await http.get(f"/api/sse/backtest/{job_id}")).status_code == 404
