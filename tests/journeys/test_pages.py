"""A client pages through history, follows it live and pages on, each time at another edge."""

import httpx
import pytest

from producers.broadcaster import SSEBroadcaster
from tests.conftest import World
from tests.support.clients import stream

pytestmark = pytest.mark.kafka

EVENTS = "/api/v1/events/training"


async def test_a_page_a_stream_and_a_page_of_different_edges_have_each_event_once(
    world: World,
) -> None:
    first, second = await world.edge(), await world.edge()

    async def report(*percents: int) -> None:
        async with SSEBroadcaster(world.producer_settings) as reporter:
            for percent in percents:
                for task in ("a", "b", "c"):
                    await reporter.send_training_progress(task, percent, "running")

    await report(*range(10))
    found: list[tuple[str, float]] = []

    def take(data: dict[str, dict[str, object]]) -> None:
        inner = data["data"]
        found.append((str(inner["task_id"]), float(str(inner["progress"]))))

    async with httpx.AsyncClient(timeout=60) as http:
        page = (await http.get(f"{first.url}{EVENTS}", params={"limit": 11})).json()
        assert (len(page["events"]), page["has_more"]) == (11, True)
        for event in page["events"]:
            take(event["data"])
        async with stream(
            second.url, "/api/v1/sse/training", headers={"Last-Event-ID": page["cursor"]}
        ) as client:
            await client.events("training_progress", 19)
            await report(*range(10, 15))
            blocks = await client.events("training_progress", 25)
        for block in blocks[:25]:
            take(block.json)
        cursor = blocks[24].id
        params = {"after": cursor, "live": "long-poll"}
        while len(found) < 45:
            page = (await http.get(f"{first.url}{EVENTS}", params=params)).json()
            for event in page["events"]:
                take(event["data"])
            params["after"] = page["cursor"]
        head = await http.head(f"{second.url}{EVENTS}")
        rest = await http.get(
            f"{first.url}{EVENTS}", params={"after": head.headers["last-event-id"]}
        )
        chunk = await http.get(f"{second.url}/ds/training/b", params={"offset": "-1"})
    assert rest.json()["events"] == []
    for task in ("a", "b", "c"):
        assert [percent for name, percent in found if name == task] == list(range(15))
    assert [message["data"]["progress"] for message in chunk.json()] == list(range(15))
