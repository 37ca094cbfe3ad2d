"""A Python program as the README and existing systems write it: requests and sseclient-py."""

import asyncio
import json
from typing import Any

import pytest
import requests
import sseclient

from producers.broadcaster import SSEBroadcaster
from tests.conftest import World

pytestmark = pytest.mark.kafka


def listen(url: str, last_id: str, count: int) -> tuple[list[Any], str]:
    """Read so many alerts; the envelopes, and the last id."""
    found = []
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last_id}
    with requests.get(url, stream=True, headers=headers, timeout=(5, 60)) as response:
        response.raise_for_status()
        body: Any = response  # what the library takes, and its types do not say
        for event in sseclient.SSEClient(body).events():
            last_id = event.id or last_id
            if event.event == "risk_alert":
                found.append(json.loads(event.data))
            if len(found) == count:
                break
    return found, last_id


async def test_it_reads_and_resumes_on_another_edge(world: World) -> None:
    first, second = await world.edge(), await world.edge()
    async with SSEBroadcaster(world.producer_settings) as reporter:
        for number in range(6):
            await reporter.send_risk_alert(
                "margin", "high", f"number {number}", "used", 0.9, 0.8, "desk", "rates"
            )
    url = "/api/v1/sse/alerts?from=earliest"
    begun, last_id = await asyncio.to_thread(listen, first.url + url, "", 2)
    rest, _ = await asyncio.to_thread(listen, second.url + url, last_id, 4)
    assert [item["data"]["message"] for item in begun + rest] == [f"number {n}" for n in range(6)]
    assert {item["event"] for item in begun} == {"risk_alert"}
