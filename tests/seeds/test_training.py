"""Clients of training tasks: requested and followed by curl, requests and EventSource."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.seeds.conftest import Open, System
from tests.seeds.programs import curls, python, run_until
from tests.seeds.snippets import STATUS, SUCCESS, Documents, Snippets

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]


async def request(system: System, snippets: Snippets, folder: Path) -> str:
    """Request a training by curl, and return its id."""
    (command,) = curls(snippets.text("training/request.sh", system.url))
    answer: Any = json.loads(await run_until([*command[:2], f"{command[2]} -s"], folder=folder))
    assert (answer["status"], answer["progress"]) == ("PENDING", 0)
    return str(answer["task_id"])


async def test_curl_and_a_python_client_follow_a_task_to_its_end(
    system: System, snippets: Snippets, tmp_path: Path
) -> None:
    task_id = await request(system, snippets, tmp_path)
    follow = snippets.text("training/follow.sh", system.url).replace("{task_id}", task_id)
    (command,) = curls(follow)
    output = await run_until([*command[:2], f"{command[2]} -s"], folder=tmp_path)
    events = [json.loads(line[6:]) for line in output.splitlines() if line.startswith("data: ")]
    last = [event for event in events if "status" in event][-1]
    assert (last["status"], last["progress"]) == ("SUCCESS", 100), output[-2000:]
    assert set(last["result"]["details"]) >= {"meter_id", "data_points", "model_path"}
    if isinstance(snippets, Documents):
        status, success = (json.loads(snippets.block(place)) for place in (STATUS, SUCCESS))
        assert set(last) >= set(status) | set(success)
        assert set(last["result"]["details"]) >= set(success["result"]["details"])
    client = snippets.text("training/client.py", system.url).replace("your-task-id", task_id)
    printed = await run_until(python(client, tmp_path), folder=tmp_path)
    assert "Status: SUCCESS, Progress: 100" in printed


async def test_a_page_shows_a_task_to_its_end_without_an_error(
    system: System, snippets: Snippets, open_page: Open, tmp_path: Path
) -> None:
    task_id = await request(system, snippets, tmp_path)
    stubs = """
        const shown = {};
        const updateProgressBar = (progress) => (shown.progress = progress);
        const updateStatusText = (status, message) => Object.assign(shown, {status, message});
    """
    script = snippets.text("training/page.js").replace("your-task-id", task_id)
    screen = await open_page(stubs + script)
    await screen.holds("shown.status === 'SUCCESS'")
    await screen.page.wait_for_timeout(500)
    assert await screen.page.evaluate("shown.progress") == 100
    assert screen.errors == []


async def test_a_page_that_falls_back_to_polling_sees_the_end(
    system: System, snippets: Snippets, open_page: Open, tmp_path: Path
) -> None:
    task_id = await request(system, snippets, tmp_path)
    stubs = """
        const statuses = [], polled = [];
        const handleStatusUpdate = (data) => data.status && statuses.push(data.status);
        const startPolling = async (taskId) =>
            polled.push((await (await fetch(`/trainmodel/status/${taskId}`)).json()).status);
    """
    script = f"{stubs}{snippets.text('training/fallback.js')}; monitorTask('{task_id}');"
    screen = await open_page(script)
    await screen.holds("statuses.at(-1) === 'SUCCESS'")
    # It takes the end of the stream for a failure, and asks once more; the answer is the same.
    await screen.holds("polled.length > 0")
    assert await screen.page.evaluate("polled") == ["SUCCESS"]


async def test_curl_asks_whether_the_service_is_healthy(
    system: System, snippets: Snippets, tmp_path: Path
) -> None:
    (command,) = curls(snippets.text("training/health.sh", system.url))
    assert '"status"' in await run_until([*command[:2], f"{command[2]} -s"], folder=tmp_path)
