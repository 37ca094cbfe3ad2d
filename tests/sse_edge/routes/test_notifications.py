"""Routes of notifications over HTTP: what is accepted, what is shown, and what lies in the log."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from pydantic import SecretStr

from kafka_io.sealing import SecretBox
from schemas.codec import decode
from schemas.events import NotificationRequest, NotificationRoute, QuietHours
from schemas.topics import NOTIFICATION_REQUESTS, NOTIFICATION_ROUTES
from tests.support.asgi_edge import AsgiEdge, log_of_the_catalogue, serving
from tests.support.fake_log import FakeLog

KEY = "thirty-two bytes that nobody else has"
HOOK: dict[str, Any] = {"destination": "webhook", "url": "https://hooks.example.com/x"}


def serving_now(log: FakeLog, **settings: Any) -> AbstractAsyncContextManager[AsgiEdge]:
    """Run an edge on a log whose clock is years behind."""
    return serving(log, ahead_s=1e12, **settings)


async def ask(edge: AsgiEdge, method: str, name: str = "", body: Any = None) -> tuple[int, Any]:
    path = f"/api/v1/notifications/{name}" if name else "/api/v1/notifications"
    content = b"" if body is None else json.dumps(body).encode()
    answer = await edge.request(path, method=method, content=content)
    return answer.status, json.loads(answer.body)


async def put(edge: AsgiEdge, name: str, body: Any) -> Any:
    """Set a route, and wait until the table of the edge has it."""
    status, shown = await ask(edge, "PUT", name, body)
    assert status == 200, shown
    async with asyncio.timeout(30):
        while await ask(edge, "GET", name) != (200, shown):  # noqa: ASYNC110  # by asking only
            await asyncio.sleep(0.01)  # the table follows the log
    return shown


async def close(edge: AsgiEdge, name: str) -> None:
    """Close a route, and wait until the table of the edge has it not."""
    assert (await ask(edge, "DELETE", name))[0] == 200
    async with asyncio.timeout(30):
        while (await ask(edge, "GET", name))[0] != 404:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)  # as above


def written(log: FakeLog) -> list[NotificationRoute]:
    records = log.records_of(NOTIFICATION_ROUTES.name)
    found = [decode(record.value) for record in records if record.value is not None]
    return [route for route in found if isinstance(route, NotificationRoute)]


async def test_a_route_is_set_shown_and_closed() -> None:
    log = log_of_the_catalogue()
    body = HOOK | {
        "secret_ref": "hook-key",
        "subjects": ["alerts", "jobs"],
        "severities": ["high", "critical"],
        "entities": ["desk-*"],
        "resolved": True,
        "quiet": {"start": "22:00", "end": "07:05", "time_zone": "Europe/Berlin"},
    }
    async with serving_now(log) as edge:
        shown = await put(edge, "desk", body)
        expected = body | {
            "name": "desk",
            "url_ref": None,
            "has_secrets": False,
            "recipients": [],
            "escalations": False,
            "digest_s": 10.0,
            "quiet_passes": ["critical"],
            "remind_s": 0.0,
            "set_by": None,
            "set_at": shown["set_at"],
        }
        assert shown == expected
        assert await ask(edge, "GET", "desk") == (200, expected)
        assert await ask(edge, "GET") == (200, [expected])
        await close(edge, "desk")
        assert await ask(edge, "GET") == (200, [])
        for method in ("GET", "DELETE"):
            status, problem = await ask(edge, method, "desk")
            assert (status, "there is no notification route 'desk'" in problem["detail"]) == (
                404,
                True,
            )
    first, last = written(log)
    assert first.quiet == QuietHours(22 * 60, 7 * 60 + 5, "Europe/Berlin")
    assert last.closed
    *_, tombstone = log.records_of(NOTIFICATION_ROUTES.name)
    assert (tombstone.key, tombstone.value) == (b"desk", None)


async def test_a_route_that_is_set_again_goes_on_from_when_it_was_made() -> None:
    log = log_of_the_catalogue()
    async with serving_now(log) as edge:
        for _ in range(2):
            await put(edge, "desk", HOOK)
        await close(edge, "desk")
        await put(edge, "desk", HOOK)
    first, second, _, third = written(log)
    assert first.since_us == second.since_us == first.event_time_us
    assert third.since_us == third.event_time_us > second.event_time_us


@pytest.mark.parametrize(
    ("body", "secrets"),
    [
        (HOOK | {"secret": "hush"}, {"secret": "hush"}),
        (
            {"destination": "slack", "url": "https://hooks.slack.com/hush"},
            {"url": "https://hooks.slack.com/hush"},
        ),
        (
            {
                "destination": "web_push",
                "url": "https://push.example.com/hush",
                "keys": {"p256dh": "hush-p", "auth": "hush-a"},
            },
            {"url": "https://push.example.com/hush", "p256dh": "hush-p", "auth": "hush-a"},
        ),
    ],
)
async def test_secrets_are_encrypted_and_never_shown(
    body: dict[str, Any], secrets: dict[str, str]
) -> None:
    log = log_of_the_catalogue()
    async with serving_now(log, notification_key=SecretStr(KEY)) as edge:
        shown = await put(edge, "desk", body)  # and a GET shows the same
        assert shown["has_secrets"]
        assert "hush" not in json.dumps(shown)
    (route,) = written(log)
    assert "hush" not in str(route)
    assert route.sealed is not None
    assert SecretBox(SecretStr(KEY)).open(route.sealed, None, "desk") == secrets


async def test_without_a_key_secrets_are_refused_with_what_to_do() -> None:
    log = log_of_the_catalogue()
    async with serving_now(log) as edge:
        status, problem = await ask(edge, "PUT", "desk", HOOK | {"secret": "hush"})
    assert status == 400
    assert "set TAPEWIRE_NOTIFICATION_KEY for edges and notifiers" in problem["detail"]
    assert "hush" not in json.dumps(problem)
    assert not written(log)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"destination": "fax"}, "'webhook'"),
        ({"destination": "webhook"}, "url or url_ref is for all destinations but email"),
        (HOOK | {"url_ref": "x"}, "url and url_ref are both given"),
        (HOOK | {"secret": "a", "secret_ref": "b"}, "secret and secret_ref are both given"),
        (HOOK | {"url": "ftp://x/"}, "must begin with https://"),
        (HOOK | {"url": "https://ann:hush@x/"}, "without a user or password"),
        (HOOK | {"url": "https://:hush@x/"}, "without a user or password"),
        (HOOK | {"url": "https://x:y/"}, "it is no URL"),
        (HOOK | {"url_ref": "../x", "url": None}, "pattern"),
        (HOOK | {"recipients": ["a@example.com"]}, "recipients are for the destination email"),
        ({"destination": "email"}, "which needs at least one"),
        ({"destination": "email", "recipients": ["a@b, c@d"]}, "pattern"),
        ({"destination": "email", "recipients": ["a@b\r\nBcc: c@d"]}, "pattern"),
        ({"destination": "web_push", "url": "https://x/"}, "keys are for the destination web_push"),
        (HOOK | {"keys": {"p256dh": "a", "auth": "b"}}, "keys are for the destination web_push"),
        (HOOK | {"subjects": []}, "at least 1"),
        (HOOK | {"subjects": ["test"]}, "'alerts'"),
        (HOOK | {"digest_s": -1}, "greater than or equal to 0"),
        (HOOK | {"remind_s": 59}, "at least 60"),
        (HOOK | {"quiet": {"start": "22:00", "end": "24:00"}}, "pattern"),
        (
            HOOK | {"quiet": {"start": "22:00", "end": "07:00", "time_zone": "Mars/Base"}},
            "is no time zone",
        ),
        (
            HOOK | {"quiet": {"start": "22:00", "end": "07:00", "time_zone": "../etc/passwd"}},
            "is no time zone",
        ),
        (HOOK | {"unknown": 1}, "unknown"),
    ],
)
async def test_what_cannot_be_sent_by_is_refused_with_the_reason(
    body: dict[str, Any], why: str
) -> None:
    log = log_of_the_catalogue()
    async with serving_now(log) as edge:
        status, problem = await ask(edge, "PUT", "desk", body)
    assert status in (400, 422)
    assert why in json.dumps(problem)
    assert "hush" not in json.dumps(problem)
    assert not written(log)


async def test_names_and_numbers_of_routes_are_bounded() -> None:
    async with serving_now(log_of_the_catalogue(), notification_routes_max=1) as edge:
        assert (await ask(edge, "PUT", "a%20b", HOOK))[0] in (400, 422)
        for _ in range(2):
            await put(edge, "one", HOOK)
        status, problem = await ask(edge, "PUT", "two", HOOK)
        assert status == 429, problem


async def test_a_test_is_requested_of_the_notifier() -> None:
    log = log_of_the_catalogue()
    async with serving_now(log) as edge:
        assert (await ask(edge, "POST", "desk/test"))[0] == 404
        await put(edge, "desk", HOOK)
        status, accepted = await ask(edge, "POST", "desk/test")
    assert status == 202
    (record,) = log.records_of(NOTIFICATION_REQUESTS.name)
    request = decode(record.value)
    assert isinstance(request, NotificationRequest)
    assert request.note.note_id == accepted["note_id"]
