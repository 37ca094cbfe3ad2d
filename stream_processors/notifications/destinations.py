"""Sends messages to webhooks, chats, mailboxes and browsers.

A route says where this process connects to, and a tenant sets it. So names are resolved once, every
address that comes of it is checked, and the connection goes to the checked address: private,
loopback, link-local and other special addresses are refused unless a setting lists them, and no
redirect is followed. Each socket's address is checked again, whatever its URL has looked like.
"""

import base64
import hashlib
import hmac
import ipaddress
import socket
import time
from collections.abc import Iterable, Mapping
from email.utils import localtime
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
import aiosmtplib
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from aiohttp.resolver import ThreadedResolver
from pydantic import AnyHttpUrl
from webpush import WebPushSubscription
from webpush.types import WebPushKeys

from schemas.events import Destination, NotificationRoute
from stream_processors.notifications.messages import (
    OutgoingMessage,
    email,
    push_body,
    slack_body,
    teams_body,
    webhook_body,
)
from stream_processors.notifications.settings import NotifierSettings, Secrets, UnusableSecret
from stream_processors.notifications.vapid import authorization

_DETAIL_CHARS = 500
_HOST_CHARS = 255
_TRY_AGAIN = frozenset({408, 425, 429})
_SMTP_PERMANENT = 500
"""SMTP's codes from here on are permanent refusals."""
_HEADERS = {"Content-Type": "application/json", "User-Agent": "tapewire"}

_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOT_PUBLIC = (ipaddress.ip_network("168.63.129.16"),)
"""Addresses that are global by their number only: the host of a virtual machine in Azure."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Outcome(NamedTuple):
    """The result of one attempt."""

    is_delivered: bool
    detail: str
    may_retry: bool = False
    """Whether another attempt may succeed."""
    retry_after_s: float = 0.0


def delivered(detail: str) -> Outcome:
    """Return that a message has arrived."""
    return Outcome(is_delivered=True, detail=detail)


def refused(detail: str) -> Outcome:
    """Return that a message will never arrive in this way."""
    return Outcome(is_delivered=False, detail=detail[:_DETAIL_CHARS])


def failed(detail: str, retry_after_s: float = 0.0) -> Outcome:
    """Return that a message may arrive when it is tried again."""
    return Outcome(False, detail[:_DETAIL_CHARS], True, retry_after_s)  # noqa: FBT003  # in order


class AddressRefused(OSError):
    """A URL leads to an address that this process may not connect to."""


class CheckedResolver(AbstractResolver):
    """Resolves names to addresses that may be connected to."""

    def __init__(self, allowed: Iterable[Network] = ()) -> None:
        """Allow all global addresses, and some networks."""
        self._resolver = ThreadedResolver()
        self._allowed = tuple(allowed)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            AddressRefused: one of them is not allowed.
        """
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            self.check(result["host"], host)
        return found

    def check(self, address: str, host: str) -> None:
        """Check that an address may be connected to.

        Raises:
            AddressRefused: it may not.
        """
        found = _final(ipaddress.ip_address(address.partition("%")[0]))
        if any(found in network for network in self._allowed):
            return
        if not _is_public(found):
            # Tenants see this text, and are not to learn what names of this network resolve to.
            named = address if host == address else f"the address of {host[:_HOST_CHARS]}"
            raise AddressRefused(
                f"{named} is not public; list its network in TAPEWIRE_NOTIFICATION_NETWORKS if "
                "messages may go there"
            )

    def make_socket(self, address: AddrInfoType) -> socket.socket:
        """Return a socket for an address, if it may be connected to.

        A host that looks like a literal address is not resolved before it gets here.

        Raises:
            AddressRefused: it may not, or it is no address.
        """
        family, kind, protocol, _, (host, *_) = address
        try:
            self.check(str(host), str(host))
        except ValueError:
            raise AddressRefused(f"{host} is no address") from None
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


def _final(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address leads to; the address itself if to none."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return False
    is_listed = any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not is_listed


class Destinations:
    """Sends messages. Use it in `async with`."""

    def __init__(self, settings: NotifierSettings) -> None:
        """Send by some settings."""
        self._settings = settings
        self._secrets = Secrets(settings)
        self._resolver = CheckedResolver(settings.notification_networks)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            socket_factory=self._resolver.make_socket,
            use_dns_cache=False,
            limit=self._settings.notification_at_once,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._settings.notification_timeout_s),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, message: OutgoingMessage, route: NotificationRoute) -> Outcome:
        """Try once to send a message by a route."""
        try:
            secrets = self._secrets.of(route, message.tenant)
        except UnusableSecret as error:
            return failed(str(error))
        headers: dict[str, str] = {}
        match route.destination:
            case Destination.WEBHOOK:
                body = webhook_body(message)
                try:
                    headers = signed(message.message_id, body, secrets.get("secret"))
                except ValueError:
                    return failed("the route's secret begins with whsec_ and is not in base 64")
            case Destination.SLACK:
                body = slack_body(message)
            case Destination.TEAMS:
                body = teams_body(message)
            case Destination.EMAIL:
                return await self._mail(message, route)
            case Destination.WEB_PUSH:
                return await self._push(message, secrets)
            case unknown:
                return refused(f"this notifier knows no destination {unknown!r}")
        return await self._post(secrets.get("url", route.url), body, headers)

    async def _post(
        self, url: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Outcome:
        assert self._session is not None
        fault = self._fault_of(url)
        if fault is not None:
            return refused(fault)
        try:
            async with self._session.post(
                url, data=body, headers=_HEADERS | dict(headers or {}), allow_redirects=False
            ) as answer:
                return outcome_of(answer.status, answer.headers.get("Retry-After"))
        except TimeoutError:
            return failed(f"no answer within {self._settings.notification_timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _outcome_of_error(error)

    def _fault_of(self, url: str) -> str | None:
        """Return why a URL is not connected to."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            return "its URL is invalid"
        if not host or parts.scheme not in ("https", "http"):
            return "its URL must begin with https:// and name a host"
        if parts.scheme == "http" and not self._settings.notification_plain_http:
            return (
                "its URL is not encrypted; begin it with https://, or set "
                "TAPEWIRE_NOTIFICATION_PLAIN_HTTP"
            )
        try:  # aiohttp resolves no literal addresses
            self._resolver.check(host, host)
        except AddressRefused as error:
            return str(error)
        except ValueError:
            return None  # a name
        return None

    async def _mail(self, message: OutgoingMessage, route: NotificationRoute) -> Outcome:
        settings = self._settings
        if settings.smtp_host is None or settings.smtp_from is None:
            return failed("no mail server is set: TAPEWIRE_SMTP_HOST and TAPEWIRE_SMTP_FROM")
        try:
            mail = email(message, settings.smtp_from, route.recipients)
            mail["Date"] = localtime()
            refusals, _ = await aiosmtplib.send(
                mail,
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                username=settings.smtp_username,
                password=settings.smtp_password_text(),
                use_tls=settings.smtp_security == "tls",
                start_tls=settings.smtp_security == "starttls",
                timeout=settings.notification_timeout_s,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = {refusal.code for refusal in error.recipients}
            may_retry = min(codes, default=0) < _SMTP_PERMANENT
            return (failed if may_retry else refused)(f"the recipients were refused: {error}")
        except aiosmtplib.SMTPResponseException as error:
            text = f"the mail server answered {error.code} {error.message}"
            return (failed if error.code < _SMTP_PERMANENT else refused)(text)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return failed(f"no mail was sent: {error}")
        left_out = [f"{name} ({code} {text})" for name, (code, text) in refusals.items()]
        detail = f"taken by {settings.smtp_host}"
        if left_out:  # the others would get the mail twice
            detail += f", but not for {', '.join(left_out)}"
        return delivered(detail[:_DETAIL_CHARS])

    async def _push(self, message: OutgoingMessage, secrets: Mapping[str, str]) -> Outcome:
        missing = [name for name in ("url", "p256dh", "auth") if not secrets.get(name)]
        if missing:
            return refused(f"the route has no {' and no '.join(missing)}")
        try:
            pusher = self._settings.web_push()
        except UnusableSecret as error:
            return failed(str(error))
        keys = WebPushKeys(auth=secrets["auth"], p256dh=secrets["p256dh"])
        try:
            subscription = WebPushSubscription(endpoint=AnyHttpUrl(secrets["url"]), keys=keys)
            made = pusher.get(push_body(message), subscription)
            who = authorization(
                secrets["url"],
                self._settings.vapid_subject or "",
                pusher.vapid.private_key,
                pusher.vapid.public_key,
            )
        except ValueError as error:
            return refused(f"the browser's subscription is invalid: {type(error).__name__}")
        headers: dict[str, str] = {str(name): str(text) for name, text in made.headers.items()}
        # The package's own is for the host without its port.
        headers["authorization"] = who
        # A message that is sent again replaces the one before.
        headers["Topic"] = message.message_id.replace("-", "")[:32]
        headers["Content-Type"] = "application/octet-stream"
        return await self._post(secrets["url"], made.encrypted, headers)


def signed(message_id: str, body: bytes, secret: str | None) -> dict[str, str]:
    """Return the headers of a webhook as https://www.standardwebhooks.com describes them.

    The id is the key of idempotency: it is the same for all attempts. The signature is HMAC-SHA-256
    of id, time and body, each followed by a full stop but the last.

    Args:
        message_id: the message's id.
        body: the body.
        secret: the key; None for no signature. Behind `whsec_` it is read as base 64.
    """
    timestamp = str(int(time.time()))
    headers = {
        "Webhook-Id": message_id,
        "Webhook-Timestamp": timestamp,
        "Idempotency-Key": message_id,
    }
    if secret:
        key = secret.encode()
        if secret.startswith("whsec_"):
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        text = f"{message_id}.{timestamp}.".encode() + body
        digest = hmac.new(key, text, hashlib.sha256).digest()
        headers["Webhook-Signature"] = "v1," + base64.b64encode(digest).decode()
    return headers


def outcome_of(status: int, retry_after: str | None = None) -> Outcome:
    """Return what the status of an HTTP response means."""
    detail = f"answered {status}"
    if 200 <= status < 300:  # noqa: PLR2004  # HTTP's successes
        return delivered(detail)
    if 300 <= status < 400:  # noqa: PLR2004  # HTTP's redirects
        return refused(f"{detail}; no redirect is followed")
    if status in _TRY_AGAIN or status >= 500:  # noqa: PLR2004  # HTTP's failures of servers
        return failed(detail, _seconds(retry_after))
    return refused(detail)


def _outcome_of_error(error: Exception) -> Outcome:
    """Return what an error of a request means; its text may have the URL, which is a secret."""
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if isinstance(cause, AddressRefused):
            return refused(str(cause))
        return failed(f"no connection: {cause}")
    if isinstance(error, aiohttp.InvalidURL):
        return refused("its URL is invalid")
    return failed(f"no answer: {type(error).__name__}")


def _seconds(retry_after: str | None) -> float:
    try:
        return max(float(retry_after or 0), 0.0)
    except ValueError:
        return 0.0  # a date; the usual pause is as good
