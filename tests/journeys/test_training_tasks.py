"""Training tasks: the clients of the existing system, unchanged, on edges that share nothing."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import joblib
import pytest
import requests
from playwright.async_api import async_playwright

from tests.conftest import Started, World
from tests.support.clients import stream
from tests.support.sse import Block

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

STAGES = ["PENDING", "FETCHING_DATA", "TRAINING_MODEL", "SAVING_MODEL", "SUCCESS"]


class System:
    """Two edges, and what a task needs."""

    def __init__(self, world: World, first: Started, second: Started) -> None:
        self.world, self.first, self.second = world, first, second

    async def ask(self, meter_id: str = "meter_test_001", meter_type: str = "electricity") -> str:
        """Ask for a training; the task's id."""
        async with httpx.AsyncClient(base_url=self.first.url, timeout=30) as client:
            wanted = {"meter_id": meter_id, "meter_type": meter_type}
            answer = (await client.post("/trainmodel/", json=wanted)).raise_for_status().json()
        assert answer == {"task_id": answer["task_id"], "status": "PENDING", "progress": 0}
        return str(answer["task_id"])

    async def status(self, task_id: str) -> Any:
        async with httpx.AsyncClient(base_url=self.second.url, timeout=30) as client:
            return (await client.get(f"/trainmodel/status/{task_id}")).raise_for_status().json()


@pytest.fixture
async def system(world: World) -> System:
    async with asyncio.TaskGroup() as starting:
        first, second = starting.create_task(world.edge()), starting.create_task(world.edge())
        starting.create_task(world.worker())
    return System(world, first.result(), second.result())


def python_client(base_url: str, task_id: str) -> list[Any]:
    """What a program built on requests alone sees, line by line, to the end."""
    seen = []
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
    with requests.get(
        f"{base_url}/trainmodel/stream/{task_id}", stream=True, headers=headers, timeout=(5, 60)
    ) as response:
        for line in response.iter_lines(decode_unicode=True):
            if not line.startswith("data: "):
                continue
            data = json.loads(line.removeprefix("data: "))
            if data.get("type") == "heartbeat":
                continue
            seen.append(data)
            if data.get("status") in ("SUCCESS", "FAILURE"):
                break
    return seen


def stages_of(seen: list[Any]) -> list[str]:
    found: list[str] = []
    for record in seen:
        if found[-1:] != [record["status"]]:
            found.append(record["status"])
    return found


async def test_a_task_is_followed_from_pending_to_a_model_that_predicts(system: System) -> None:
    task_id = await system.ask()
    assert (await system.status(task_id))["status"] == "PENDING"
    async with asyncio.TaskGroup() as both:
        client = asyncio.to_thread(python_client, system.second.url, task_id)
        following = both.create_task(client)
        await system.world.trainer()
    seen = following.result()

    assert stages_of(seen) == STAGES
    assert [record["progress"] for record in seen] == sorted(record["progress"] for record in seen)
    assert {record["task_id"] for record in seen} == {task_id}
    assert any(record["estimated_completion"] for record in seen)
    result = seen[-1]["result"]
    details = result["details"]
    assert result["status"] == "success"
    assert details["meter_id"] == "meter_test_001"
    assert details["data_points"] > 20_000
    model = joblib.load(system.world.folder / "models" / details["model_path"])
    assert 0 <= float(model.predict([[18, 1, 11, 4.0, 0.5, 0.5]])[0]) < 20
    assert await system.status(task_id) == seen[-1]
    # After the end a client gets the last status only, once a processor has followed it.
    async with asyncio.timeout(60):
        while await asyncio.to_thread(python_client, system.first.url, task_id) != seen[-1:]:
            continue


async def test_a_browser_and_curl_see_what_the_log_says(system: System, chromium: str) -> None:
    task_id = await system.ask("house 7/../x", "gas")
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sN", "-H", "Accept: text/event-stream"),
        f"{system.second.url}/trainmodel/stream/{task_id}",
        stdout=asyncio.subprocess.PIPE,
    )
    await system.world.trainer()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"{system.first.url}/health/live")
        in_browser = await page.evaluate(
            """taskId => new Promise(done => {
                const seen = [];
                const eventSource = new EventSource(`/trainmodel/stream/${taskId}`);
                eventSource.onmessage = event => {
                    const data = JSON.parse(event.data);
                    if (data.type === 'heartbeat') return;
                    seen.push(data);
                    if (data.status === 'SUCCESS' || data.status === 'FAILURE') {
                        eventSource.close();
                        done(seen);
                    }
                };
            })""",
            task_id,
        )
        await browser.close()
    printed, _ = await curl.communicate()
    lines = [line for line in printed.decode().splitlines() if line.startswith("data: ")]
    by_curl = [json.loads(line.removeprefix("data: ")) for line in lines]
    by_curl = [item for item in by_curl if item.get("type") != "heartbeat"]

    assert stages_of(by_curl) == STAGES
    assert in_browser == by_curl[-len(in_browser) :]
    path = Path(in_browser[-1]["result"]["details"]["model_path"])
    assert path.parent == Path("gas")
    assert (system.world.folder / "models" / path).exists()


async def test_a_trainer_is_killed_and_another_runs_the_task_again(system: System) -> None:
    task_id = await system.ask()
    path = f"/trainmodel/stream/{task_id}"
    lost = await system.world.trainer(training_step_pause_s=0.5)
    blocks: list[Block] = []
    async with stream(system.first.url, path) as client:
        await client.until(lambda seen: any("trees" in (record.data or "") for record in seen))
        blocks += client.blocks
        last_id = client.last_id
    await lost.kill()
    await system.world.trainer()
    # The client comes back on the other edge.
    async with stream(system.second.url, path, headers={"Last-Event-ID": last_id}) as client:
        await client.to_end()
        blocks += client.blocks

    events = [block.json for block in blocks if block.data and "heartbeat" not in block.data]
    assert [event["attempt"] for event in events] == sorted(event["attempt"] for event in events)
    assert stages_of([event for event in events if event["attempt"] == 2]) == STAGES[1:]
    endings = [event for event in events if event["status"] in ("SUCCESS", "FAILURE")]
    assert [ending["status"] for ending in endings] == ["SUCCESS"]
    assert (await system.status(task_id))["attempt"] == 2


async def test_several_tasks_in_one_connection_and_only_some_of_their_news(
    system: System,
) -> None:
    tasks = [await system.ask(f"meter {number}") for number in range(3)]
    await system.world.trainer()
    wanted: Any = {"task_id": tasks, "events": "SUCCESS"}
    async with stream(system.first.url, "/trainmodel/stream", **wanted) as client:
        await client.to_end()
        events = [block.json for block in client.blocks if block.data]
    ended = [event for event in events if event.get("type") != "heartbeat"]
    assert sorted(item["task_id"] for item in ended) == sorted(tasks)
    assert {item["status"] for item in ended} == {"SUCCESS"}
    headers = {"Last-Event-ID": client.last_id}
    async with stream(system.second.url, "/trainmodel/stream", headers=headers, **wanted) as over:
        assert over.response.status_code == 204


async def tapewire(*arguments: str) -> tuple[int, list[str], str]:
    """Run the command line; its exit code, and the lines it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complained = await process.communicate()
    code = process.returncode
    assert code is not None
    return code, printed.decode().splitlines(), complained.decode()


@pytest.mark.long
async def test_the_command_line_asks_follows_and_compares(system: System) -> None:
    await system.world.trainer(training_step_pause_s=0.3)
    url = ("--url", system.first.url)
    code, lines, complaint = await tapewire("task", "--new", "--meter-type", "gas", *url)
    assert code == 0, complaint
    assert lines[0].startswith("task ")
    # A stream begins with the present status, and a trainer may have been quick.
    assert lines[1].split()[0] in ("PENDING", "FETCHING_DATA")
    assert lines[-1].split()[0] == "SUCCESS"

    code, again, _ = await tapewire("task", lines[0].split()[1], *url)
    assert (code, again) == (0, lines[-1:])

    code, lines, _ = await tapewire("task", "--compare", await system.ask(), *url)
    table = {line[:22].strip(): line[22:].replace(",", "").split() for line in lines[-5:]}
    polls, streams = map(int, table["requests"])
    assert code == 0
    assert min(polls, streams) >= 1
    # A stream has every change, whenever it is opened; a poll has those that it meets.
    polled, streamed = map(int, table["changes seen"])
    assert streamed >= polled >= 1
    # "812 ms 9 ms"
    assert table["mean staleness"][1::2] == ["ms", "ms"]

    code, _, complaint = await tapewire("task", "--compare", "nobody", *url)
    assert code != 0
    assert "there is no task 'nobody'" in complaint


async def test_refusals_name_their_reason(system: System) -> None:
    wrong: list[tuple[str, str, object, int, str]] = [
        ("POST", "/trainmodel/", {"meter_id": "m", "meter_type": "steam"}, 400, "meter_type"),
        ("POST", "/trainmodel/", {"meter_id": "", "meter_type": "gas"}, 400, "meter_id"),
        ("POST", "/trainmodel/", {"meter_type": "gas"}, 400, "meter_id"),
        ("GET", "/trainmodel/status/nobody", None, 404, "nobody"),
        ("GET", "/trainmodel/stream/nobody", None, 404, "nobody"),
        ("POST", "/trainmodel", {"meter_type": "gas"}, 400, "meter_id"),
        ("GET", "/trainmodel/stream", None, 400, "task_id"),
        ("GET", "/trainmodel/stream/x?events=DONE", None, 400, "DONE"),
    ]
    async with httpx.AsyncClient(base_url=system.first.url, timeout=30) as client:
        for method, path, body, status, named in wrong:
            answer = await client.request(method, path, json=body)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert named in answer.text


async def test_an_unknown_task_is_an_error_event_where_a_stream_was_asked_for(
    system: System,
) -> None:
    path = "/trainmodel/stream/nobody"
    async with stream(system.first.url, path) as client:
        assert client.response.status_code == 200
        assert client.response.headers["content-type"] == "text/event-stream"
        (error,) = await client.to_end()
    assert error.event is None
    assert error.id is None
    assert (error.json["task_id"], error.json["type"]) == ("nobody", "error")
    assert "there is no task 'nobody'" in error.json["error"]
    assert error.json["timestamp"]
    assert error.retry_ms is not None
    assert error.retry_ms >= 3_600_000
    async with stream(system.first.url, "/trainmodel/stream", task_id=["a", "b"]) as client:
        (error,) = await client.to_end()
    assert sorted(error.json["task_ids"]) == ["a", "b"]


async def test_paths_without_a_slash_work_as_those_with_one(world: World) -> None:
    edge = await world.edge()
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as client:
        wanted = {"meter_id": "m", "meter_type": "gas"}
        answer = await client.post("/trainmodel", json=wanted)
        assert (answer.status_code, answer.json()["status"]) == (200, "PENDING")
        for path in ("/health", "/health/"):
            assert (await client.get(path)).json() == {"status": "ready"}
