"""Notifications through the whole system: a route, alerts, a receiver, and a notifier that dies."""

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from kafka_io.publisher import Publisher
from schemas.events import RiskAlert
from tests.conftest import World
from tests.support.clients import stream
from tests.support.local_server import QuietHandler, serving

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


class Receiver:
    """A webhook's server, which answers 503 until it is opened."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.is_open = False
        self.arrived = threading.Condition()
        receiver = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802  # the server's name for it
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.arrived:
                    receiver.got.append((self.headers["Webhook-Id"], json.loads(body)))
                    receiver.arrived.notify_all()
                    status = 204 if receiver.is_open else 503
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.handler: type[QuietHandler] = Handler

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of what has arrived."""

        def wait() -> bool:
            with self.arrived:
                return self.arrived.wait_for(holds, 120)

        assert await asyncio.to_thread(wait)

    def open(self) -> None:
        with self.arrived:
            self.is_open = True
            self.got.clear()


def alert(number: int) -> RiskAlert:
    return RiskAlert(
        alert_id=f"a{number}",
        transition_id=f"a{number}:1",
        alert_type="var_exceeded",
        state="raised",
        severity="high",
        message=f"VaR exceeded threshold, number {number}",
        metric_name="var_95",
        metric_value=0.0612,
        threshold=0.05,
        entity_type="portfolio",
        entity_id=f"desk-{number}",
        event_time_us=1_700_000_000_000_000 + number,
    )


async def test_no_alert_is_missed_by_a_receiver_that_was_away_while_its_notifier_was_killed(
    new_world: Callable[[], AbstractAsyncContextManager[World]],
) -> None:
    receiver = Receiver()
    options = {
        "notification_networks": "127.0.0.0/8",
        "notification_plain_http": True,
        "worker_id": "one",
    }
    with serving(receiver.handler) as url:
        async with (
            new_world() as world,
            Publisher(world.producer_settings) as publisher,
        ):
            edge = await world.edge()
            await publisher.publish(alert(0))  # before there is a route
            async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
                body = {"destination": "webhook", "url": f"{url}/hook", "digest_s": 0}
                (await http.put("/api/v1/notifications/desk", json=body)).raise_for_status()
            notifier = await world.program("stream_processors.notifications", **options)
            await publisher.publish(alert(1))
            await receiver.until(lambda: len(receiver.got) >= 2)
            assert len({message for message, _ in receiver.got}) == 1
            first = receiver.got[0][0]
            await notifier.kill()
            for number in range(2, 30):
                await publisher.publish(alert(number))
            async with stream(edge.url, "/api/v1/sse/notifications") as client:
                await client.until(lambda blocks: len(blocks) >= 2)
                receiver.open()
                await world.program("stream_processors.notifications", **options)
                await receiver.until(lambda: len(told(receiver)) >= 29)
                await client.until(
                    lambda _: {f"a{number}:1" for number in range(1, 30)} <= reported(client)
                )
            assert told(receiver)[0] == "a1:1"
            assert receiver.got[0][0] == first  # the same message, also from another process
            assert len({message for message, _ in receiver.got}) <= 7  # digests, not 29 messages
    assert sorted(told(receiver)) == sorted(f"a{number}:1" for number in range(1, 30))


def told(receiver: Receiver) -> list[str]:
    """Return the transitions that have arrived."""
    return [event["id"] for _, body in list(receiver.got) for event in body["events"]]


def reported(client: Any) -> set[str]:
    """Return the transitions that were reported as delivered."""
    return {
        transition
        for block in client.blocks
        if block.event == "notification_delivery" and block.inner["state"] == "delivered"
        for transition in block.inner["note_ids"]
    }
