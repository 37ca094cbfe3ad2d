"""Routes of notifications: which events are sent to which webhook, chat, mailbox or browser.

Setting a route writes an event; notifiers send by it at once. Secrets are never shown again.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from uuid import uuid4
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from kafka_io.clock import now_us
from kafka_io.errors import RecordRefused, Unsent
from kafka_io.sealing import SealingKey, SecretBox
from schemas.events import (
    Destination,
    Note,
    NotificationRequest,
    NotificationRoute,
    QuietHours,
    Severity,
    Subject,
)
from schemas.instants import to_rfc3339
from schemas.keys import encode_key
from schemas.topics import NOTIFICATION_ROUTES
from sse_edge.caller import Scope
from sse_edge.errors import InvalidParameter, NoSuchThing
from sse_edge.http.dependencies import (
    caller_of,
    publisher_of,
    rows_of,
    subject_of,
    tenant_written_by,
)
from sse_edge.http.quotas import refuse_beyond
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import write
from sse_edge.routes.views import Views, ViewsDep

_URL_CHARS_MAX = 2_048
_REMIND_MIN_S = 60
_MINUTES_A_DAY = 24 * 60

router = APIRouter(prefix="/api/v1/notifications", tags=["notifications"])

RouteName = Annotated[
    str,
    Path(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="The name of the route: letters, digits, dots, underscores and hyphens.",
    ),
]
_Reference = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]
_Secret = Annotated[SecretStr, Field(min_length=1, max_length=_URL_CHARS_MAX)]
_Address = Annotated[str, Field(max_length=256, pattern=r"^[^@\s,;<>\"]+@[^@\s,;<>\"]+$")]
_TimeOfDay = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
_Subjects = Annotated[
    list[Literal[Subject.ALERTS, Subject.JOBS, Subject.TASKS]], Field(min_length=1, max_length=3)
]
_Severities = Annotated[list[Severity], Field(max_length=len(Severity))]


class Quiet(BaseModel):
    """Hours of each day in which messages wait, from `start` to `end`; past midnight too."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    start: _TimeOfDay
    """The local time at which they begin, such as `22:00`."""
    end: _TimeOfDay
    """The local time at which they end."""
    time_zone: Annotated[str, Field(max_length=64)] = "UTC"
    """The time zone, such as `Europe/Berlin`."""

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError):
            raise ValueError(
                f"{name[:60]!r} is no time zone of the IANA database, such as Europe/Berlin"
            ) from None
        return name


class PushKeys(BaseModel):
    """The `keys` of a browser's `PushSubscription`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    p256dh: _Secret
    """The browser's public key."""
    auth: _Secret
    """The browser's secret."""


class NotificationRouteRequest(BaseModel):
    """Where events are sent, and which."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {
                    "destination": "webhook",
                    "url": "https://hooks.example.com/tapewire",
                    "secret_ref": "hooks-key",
                    "subjects": ["alerts"],
                    "severities": ["high", "critical"],
                    "entities": ["desk-*"],
                    "resolved": True,
                    "quiet": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Berlin"},
                }
            ]
        },
    )

    destination: Destination
    """The kind of receiver."""
    url: _Secret | None = None
    """The URL of a webhook, chat or push service. That of a chat or a push service is a secret."""
    url_ref: _Reference | None = None
    """The name of a secret of the notifiers that holds the URL."""
    secret: _Secret | None = None
    """The key that signs a webhook's messages."""
    secret_ref: _Reference | None = None
    """The name of a secret of the notifiers that holds that key."""
    keys: PushKeys | None = None
    """The keys of a browser."""
    recipients: Annotated[list[_Address], Field(max_length=50)] = []
    """The addresses of an e-mail."""
    subjects: _Subjects = [Subject.ALERTS]
    """The things that are sent: alerts, ends of backtest jobs, ends of training tasks."""
    severities: _Severities = []
    """The severities that are sent; by default all. A failed job or task is `high`."""
    entities: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=100)] = []
    """Patterns of the portfolios, jobs and tasks, such as `desk-*`; by default all."""
    resolved: bool = False
    """Whether the end of an alert is sent as well."""
    escalations: bool = False
    """Whether a higher level of an alert is sent as well."""
    digest_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 10.0
    """How long events are collected into one message, in seconds."""
    quiet: Quiet | None = None
    """Hours in which messages wait."""
    quiet_passes: _Severities = [Severity.CRITICAL]
    """The severities that are sent in quiet hours."""
    remind_s: Annotated[float, Field(ge=0, le=7 * 86_400, allow_inf_nan=False)] = 0.0
    """How often to remind of an alert that stays open and that nobody has acknowledged, in seconds,
    at least 60; 0 for never."""

    @field_validator("remind_s")
    @classmethod
    def _is_no_flood(cls, remind_s: float) -> float:
        if 0 < remind_s < _REMIND_MIN_S:
            raise ValueError(f"it must be 0, for never, or at least {_REMIND_MIN_S}")
        return remind_s

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.url is not None and self.url_ref is not None:
            raise ValueError("url and url_ref are both given; give one")
        if self.secret is not None and self.secret_ref is not None:
            raise ValueError("secret and secret_ref are both given; give one")
        has_url = self.url is not None or self.url_ref is not None
        is_email = self.destination is Destination.EMAIL
        if is_email != bool(self.recipients):
            raise ValueError("recipients are for the destination email, which needs at least one")
        if is_email == has_url:
            raise ValueError("url or url_ref is for all destinations but email, and they need it")
        if (self.destination is Destination.WEB_PUSH) != (self.keys is not None):
            raise ValueError("keys are for the destination web_push, which needs them")
        if self.destination is not Destination.WEBHOOK and (self.secret or self.secret_ref):
            raise ValueError("secret and secret_ref are for the destination webhook")
        return self

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url.get_secret_value())
            _ = parts.port
        except ValueError:
            raise ValueError("it is no URL") from None
        if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
            raise ValueError(
                "it must begin with https:// and name a host, without a user or password"
            )
        return url

    @property
    def secrets(self) -> dict[str, str]:
        """The secrets that the request holds, by name."""
        given = {"secret": self.secret}
        if self.destination is not Destination.WEBHOOK:
            given["url"] = self.url
        if self.keys is not None:
            given |= {"p256dh": self.keys.p256dh, "auth": self.keys.auth}
        return {
            name: secret.get_secret_value() for name, secret in given.items() if secret is not None
        }

    @property
    def references(self) -> dict[str, str]:
        """The names of the notifiers' secrets, by what they are."""
        given = {"url": self.url_ref, "secret": self.secret_ref}
        return {name: reference for name, reference in given.items() if reference is not None}


@router.put(
    "/{name}",
    dependencies=[require(Scope.ADMIN)],
    summary="Set a route of notifications",
    responses={503: {"description": "Kafka is unavailable."}},
)
async def put_route(
    request: Request, views: ViewsDep, name: RouteName, body: NotificationRouteRequest
) -> dict[str, object]:
    """Replace a route. Notifiers send what happens from now on.

    The jobs and tasks of users are sent by routes that they have set themselves.
    """
    known = {route.name: route for route in await rows_of(request, views.notification_routes)}
    present = {route.name for route in known.values() if not route.closed}
    refuse_beyond(views.settings.notification_routes_max, present, name, "notification routes")
    caller, time_us = caller_of(request), now_us()
    before = known.get(name)
    route = NotificationRoute(
        name=name,
        destination=body.destination,
        url=_plain_url(body),
        recipients=body.recipients,
        secret_refs=body.references,
        sealed=_sealed(body, views.settings.notification_key, tenant_written_by(request), name),
        subjects=body.subjects,
        severities=body.severities,
        entities=body.entities,
        resolved=body.resolved,
        escalations=body.escalations,
        digest_s=body.digest_s,
        quiet=None if body.quiet is None else _quiet_hours(body.quiet),
        quiet_passes=body.quiet_passes,
        remind_s=body.remind_s,
        since_us=time_us if before is None or before.closed else before.since_us,
        owner_tenant=None if caller is None else caller.tenant,
        set_by=subject_of(request),
        event_time_us=time_us,
    )
    await write(request, route)
    return _shown(route)


@router.delete(
    "/{name}", dependencies=[require(Scope.ADMIN)], summary="Close a route of notifications"
)
async def close_route(request: Request, views: ViewsDep, name: RouteName) -> dict[str, object]:
    """Nothing more is sent by the route; messages that wait are dropped."""
    route = await _find(request, views, name)
    closed = NotificationRoute(
        name=name,
        destination=route.destination,
        subjects=route.subjects,
        closed=True,
        set_by=subject_of(request),
        event_time_us=now_us(),
    )
    await write(request, closed)
    # The closed route says who has closed it, until the topic is compacted; then nothing is left.
    # Without the deletion the route is closed all the same.
    with suppress(Unsent, RecordRefused):
        key = encode_key(name, tenant_written_by(request))
        await publisher_of(request).delete(NOTIFICATION_ROUTES, key)
    return {"name": name, "status": "closed"}


@router.get("", dependencies=[require(Scope.ADMIN)], summary="List the routes of notifications")
async def all_routes(request: Request, views: ViewsDep) -> list[dict[str, object]]:
    """Routes are listed by name, without their secrets."""
    routes = await rows_of(request, views.notification_routes)
    present = sorted((route for route in routes if not route.closed), key=lambda route: route.name)
    return [_shown(route) for route in present]


@router.get("/{name}", dependencies=[require(Scope.ADMIN)], summary="Get a route of notifications")
async def one_route(request: Request, views: ViewsDep, name: RouteName) -> dict[str, object]:
    """Return a route without its secrets."""
    return _shown(await _find(request, views, name))


@router.post(
    "/{name}/test",
    status_code=202,
    dependencies=[require(Scope.ADMIN)],
    summary="Send a test message by a route",
)
async def test_route(request: Request, views: ViewsDep, name: RouteName) -> dict[str, object]:
    """The stream `/api/v1/sse/notifications` shows what becomes of it."""
    await _find(request, views, name)
    note_id = f"test:{uuid4()}"
    note = Note(
        note_id=note_id,
        subject=Subject.TEST,
        entity_id=name,
        episode=note_id,
        state="test",
        severity=Severity.LOW,
        text=f"a test of the route {name}",
        event_time_us=now_us(),
    )
    await write(request, NotificationRequest(route=name, note=note))
    return {"name": name, "note_id": note_id, "status": "accepted"}


async def _find(request: Request, views: Views, name: str) -> NotificationRoute:
    for route in await rows_of(request, views.notification_routes):
        if route.name == name and not route.closed:
            return route
    raise NoSuchThing(
        f"there is no notification route {name!r}; GET /api/v1/notifications lists all"
    )


def _plain_url(body: NotificationRouteRequest) -> str:
    if body.destination is not Destination.WEBHOOK or body.url is None:
        return ""
    return body.url.get_secret_value()


def _sealed(
    body: NotificationRouteRequest, key: SealingKey | None, tenant: str | None, name: str
) -> bytes | None:
    """Return the secrets of a request, encrypted; None where it has none.

    Raises:
        InvalidParameter: it has secrets, and this edge cannot encrypt them.
    """
    secrets = body.secrets
    if not secrets:
        return None
    if key is None:
        raise InvalidParameter(
            "body",
            f"{' and '.join(secrets)} would lie in the log in clear; set TAPEWIRE_NOTIFICATION_KEY "
            "for edges and notifiers, or name a secret of the notifiers by url_ref or secret_ref",
        )
    return _box(key).seal(secrets, tenant, name)


@lru_cache(maxsize=1)
def _box(key: SealingKey) -> SecretBox:
    return SecretBox(key)


def _quiet_hours(quiet: Quiet) -> QuietHours:
    return QuietHours(_minute(quiet.start), _minute(quiet.end), quiet.time_zone)


def _minute(time_of_day: str) -> int:
    hours, minutes = time_of_day.split(":")
    return int(hours) * 60 + int(minutes)


def _time_of_day(minute: int) -> str:
    return "{:02d}:{:02d}".format(*divmod(minute % _MINUTES_A_DAY, 60))


def _shown(route: NotificationRoute) -> dict[str, object]:
    quiet: Mapping[str, str] | None = None
    if route.quiet is not None:
        quiet = {
            "start": _time_of_day(route.quiet.start_minute),
            "end": _time_of_day(route.quiet.end_minute),
            "time_zone": route.quiet.time_zone,
        }
    return {
        "name": route.name,
        "destination": route.destination,
        "url": route.url or None,
        "url_ref": route.secret_refs.get("url"),
        "secret_ref": route.secret_refs.get("secret"),
        "has_secrets": route.sealed is not None,
        "recipients": list(route.recipients),
        "subjects": list(route.subjects),
        "severities": list(route.severities),
        "entities": list(route.entities),
        "resolved": route.resolved,
        "escalations": route.escalations,
        "digest_s": route.digest_s,
        "quiet": quiet,
        "quiet_passes": list(route.quiet_passes),
        "remind_s": route.remind_s,
        "set_by": route.set_by,
        "set_at": to_rfc3339(route.event_time_us),
    }
