"""Sending, against real servers on loopback: webhooks, chats, a mail server, a push service."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import SecretStr

from infra.embedded_broker import free_port
from kafka_io.sealing import SecretBox
from stream_processors.notifications.destinations import (
    AddressRefused,
    CheckedResolver,
    Destinations,
    Outcome,
    outcome_of,
    signed,
)
from stream_processors.notifications.messages import OutgoingMessage
from stream_processors.notifications.settings import NotifierSettings
from tests.stream_processors.notifications.conftest import note, route
from tests.support.local_server import QuietHandler, serving

KEY = SecretStr("thirty-two bytes that nobody else has")
HOOK_KEY = "the key of a webhook"
MESSAGE = OutgoingMessage("11111111-2222-3333-4444-555555555555", "desk", None, [note(1)])


class Receiver:
    """A server that keeps what it gets, and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Mapping[str, str], bytes]] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        receiver = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802  # the server's name for it
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers), body))
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.handler: type[QuietHandler] = Handler


def settings(**values: Any) -> NotifierSettings:
    given: dict[str, Any] = {
        "notification_networks": "127.0.0.0/8,::1",
        "notification_plain_http": True,
        "notification_key": KEY,
        "notification_timeout_s": 5.0,
    }
    return NotifierSettings(**(given | values))


def sealed(**secrets: str) -> bytes:
    return SecretBox(KEY).seal(secrets, None, "desk")


async def send(made: Any, message: OutgoingMessage = MESSAGE, **values: Any) -> Outcome:
    async with Destinations(settings(**values)) as destinations:
        return await destinations.send(message, made)


async def test_a_webhook_is_signed_and_has_the_same_id_each_time() -> None:
    receiver = Receiver()
    with serving(receiver.handler) as url:
        made = route(url=f"{url}/hook", sealed=sealed(secret=HOOK_KEY))
        for _ in range(2):
            assert (await send(made)).is_delivered
    for path, headers, body in receiver.requests:
        assert path == "/hook"
        assert headers["Webhook-Id"] == headers["Idempotency-Key"] == MESSAGE.message_id
        text = f"{MESSAGE.message_id}.{headers['Webhook-Timestamp']}.".encode() + body
        digest = hmac.new(HOOK_KEY.encode(), text, hashlib.sha256).digest()
        assert headers["Webhook-Signature"] == "v1," + base64.b64encode(digest).decode()
        assert json.loads(body)["events"][0]["id"] == "n1"


def test_a_signature_is_that_of_the_published_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the Standard Webhooks' libraries."""
    monkeypatch.setattr("time.time", lambda: 1_614_265_330.0)
    headers = signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    assert headers["Webhook-Signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert "Webhook-Signature" not in signed("m", b"", None)


@pytest.mark.parametrize("destination", ["slack", "teams"])
async def test_a_chats_url_is_a_secret(destination: str) -> None:
    receiver = Receiver()
    with serving(receiver.handler) as url:
        made = route(destination=destination, url="", sealed=sealed(url=f"{url}/services/x"))
        assert (await send(made)).is_delivered
    ((path, headers, body),) = receiver.requests
    assert path == "/services/x"
    assert headers["Content-Type"] == "application/json"
    assert "note 1" in body.decode()


@pytest.mark.parametrize(
    ("status", "retry_after", "outcome"),
    [
        (200, None, (True, False, 0.0)),
        (302, None, (False, False, 0.0)),
        (404, None, (False, False, 0.0)),
        (410, None, (False, False, 0.0)),
        (408, None, (False, True, 0.0)),
        (429, "17", (False, True, 17.0)),
        (429, "Fri, 31 Dec 1999 23:59:59 GMT", (False, True, 0.0)),
        (503, "-5", (False, True, 0.0)),
    ],
)
def test_what_an_answer_means(
    status: int, retry_after: str | None, outcome: tuple[bool, bool, float]
) -> None:
    found = outcome_of(status, retry_after)
    assert (found.is_delivered, found.may_retry, found.retry_after_s) == outcome


async def test_a_redirect_is_not_followed() -> None:
    receiver, inside = Receiver(), Receiver()
    with serving(inside.handler) as secret_url, serving(receiver.handler) as url:
        receiver.status, receiver.headers = 307, {"Location": secret_url}
        found = await send(route(url=url))
    assert (found.is_delivered, found.may_retry) == (False, False)
    assert "no redirect is followed" in found.detail
    assert not inside.requests


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://2130706433:{port}/",
        "http://127.1:{port}/",
        "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:{port}/",
        "http://①②⑦.0.0.1:{port}/",
        "http://[::127.0.0.1]:{port}/",
        "http://[64:ff9b::127.0.0.1]:{port}/",
        "http://[2002:7f00:1::]:{port}/",
        "http://[fec0::1]:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://0x7f000001:{port}/",
        "http://0x7f.1:{port}/",
        "http://[::]:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://[::ffff:0:127.0.0.1]:{port}/",
        "http://[64:ff9b:1::7f00:1]:{port}/",
        "http://[2001:0:7f00:1::]:{port}/",
        "http://[fe80::1%25lo]:{port}/",
        "http://example.com@127.0.0.1:{port}/",
        "http://example.com\\@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\@example.com/",
        "http://168.63.129.16/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
    ],
)
async def test_private_addresses_are_refused_unless_they_are_listed(url: str) -> None:
    receiver = Receiver()
    with serving(receiver.handler) as server:
        port = server.rpartition(":")[2]
        found = await send(route(url=url.format(port=port)), notification_networks="")
    assert not found.is_delivered
    assert not receiver.requests
    assert not found.may_retry
    is_named = "is not public; list its network in" in found.detail
    assert is_named or found.detail == "its URL is invalid"


async def test_a_public_address_is_public_behind_a_translator() -> None:
    resolver = CheckedResolver()
    for address in ("93.184.215.14", "64:ff9b::93.184.215.14", "2606:2800:21f:cb07::1"):
        resolver.check(address, "h")


async def test_no_socket_is_made_for_what_is_no_checked_address() -> None:
    resolver = CheckedResolver()
    for host in ("127.1", "10.0.0.1", "①②⑦.0.0.1"):
        with pytest.raises(AddressRefused):
            resolver.make_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, 443)))


async def test_a_name_is_checked_each_time_it_is_resolved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name whose address changes between a check and the connection gains nothing."""
    resolver = CheckedResolver()

    async def rebound(*_: object) -> list[dict[str, Any]]:
        return [{"hostname": "h", "host": "93.184.215.14"}, {"hostname": "h", "host": "10.0.0.1"}]

    monkeypatch.setattr(resolver._resolver, "resolve", rebound)
    with pytest.raises(AddressRefused, match="the address of h is not public") as refused:
        await resolver.resolve("h", 443)
    assert "10.0.0.1" not in str(refused.value)  # the tenant sees the text
    await resolver.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "must begin with https://"),
        ("https:///path", "must begin with https://"),
        ("https://example.com:99999/", "its URL is invalid"),
        ("http://example.com/", "is not encrypted"),
    ],
)
async def test_urls_that_are_not_connected_to(url: str, reason: str) -> None:
    found = await send(route(url=url), notification_plain_http=False)
    assert (found.is_delivered, found.may_retry) == (False, False)
    assert reason in found.detail


async def test_a_receiver_that_is_away_or_hangs_is_tried_again() -> None:
    class Hangs(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802  # the server's name for it
            self.rfile.read(int(self.headers["Content-Length"]))
            self.rfile.read(1)  # until the client leaves

    with serving(Hangs) as url:
        found = await send(route(url=url), notification_timeout_s=0.3)
        assert (found.may_retry, found.detail) == (True, "no answer within 0.3 s")
    found = await send(route(url=url))
    assert found.may_retry
    assert found.detail.startswith("no connection")


async def test_a_secret_is_in_no_detail() -> None:
    receiver = Receiver()
    receiver.status = 500
    with serving(receiver.handler) as url:
        made = route(destination="slack", url="", sealed=sealed(url=f"{url}/services/hush"))
        details = [(await send(made)).detail]
    details.append((await send(made)).detail)
    odd = route(destination="slack", url="", sealed=sealed(url="https://hush:hush@[::bad/"))
    details.append((await send(odd)).detail)
    assert "hush" not in " ".join(details)


async def test_routes_that_this_notifier_cannot_send_by_say_why() -> None:
    no_key: dict[str, str] = {"secret": "whsec_hush!"}
    odd = await send(route(url="https://example.com", sealed=sealed(**no_key)))
    assert odd.detail == "the route's secret begins with whsec_ and is not in base 64"
    assert "knows no destination 'fax'" in (await send(route(destination="fax"))).detail
    unknown = await send(route(secret_refs={"secret": "hook"}))
    assert unknown.may_retry
    assert "TAPEWIRE_NOTIFICATION_SECRETS" in unknown.detail
    mail = await send(route(destination="email", recipients=["a@example.com"]))
    assert mail.may_retry
    assert "TAPEWIRE_SMTP_HOST" in mail.detail
    push = await send(route(destination="web_push", sealed=sealed(url="https://push")))
    assert "no p256dh and no auth" in push.detail


class Mailbox:
    """Keeps mails; some recipients do not exist."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []

    async def handle_RCPT(  # noqa: N802  # the server's name for it
        self, server: SMTP, session: object, envelope: Envelope, address: str, options: object
    ) -> str:
        del server, session, options
        if address.startswith("nobody@"):
            return "550 no such mailbox"
        if address.startswith("later@"):
            return "450 try again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802  # as above
        self, server: SMTP, session: object, envelope: Envelope
    ) -> str:
        del server, session
        self.mails.append(envelope)
        return "250 taken"


@contextmanager
def mail_server(mailbox: Mailbox, context: ssl.SSLContext) -> Generator[int]:
    def authenticate(*given: Any) -> AuthResult:
        login = given[4]
        return AuthResult(success=login == LoginPassword(b"ann", b"pass"))

    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        authenticator=authenticate,
        auth_required=True,
    )
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


async def test_an_email_goes_out_by_a_mail_server_with_tls_and_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    mailbox = Mailbox()
    with mail_server(mailbox, context) as port:
        server: dict[str, Any] = {
            "smtp_host": "127.0.0.1",
            "smtp_port": port,
            "smtp_from": "Tapewire <t@example.com>",
            "smtp_username": "ann",
            "smtp_password": SecretStr("pass"),
        }
        made = route(destination="email", recipients=["a@example.com", "b@example.com"])
        assert (await send(made, **server)).is_delivered
        gone = await send(route(destination="email", recipients=["nobody@example.com"]), **server)
        assert (gone.is_delivered, gone.may_retry) == (False, False)
        later = await send(route(destination="email", recipients=["later@example.com"]), **server)
        assert (later.is_delivered, later.may_retry) == (False, True)
        some = ["a@example.com", "nobody@example.com"]
        partly = await send(route(destination="email", recipients=some), **server)
        assert partly.is_delivered
        assert partly.detail.endswith("but not for nobody@example.com (550 no such mailbox)")
        by_another: dict[str, Any] = server | {"smtp_password": SecretStr("wrong")}
        wrong = await send(made, **by_another)
        assert not wrong.is_delivered
        assert "wrong" not in wrong.detail
    mail, _ = mailbox.mails
    assert mail.rcpt_tos == ["a@example.com", "b@example.com"]
    assert isinstance(mail.content, bytes)
    read = message_from_bytes(mail.content, policy=default)
    assert read["Subject"] == "[high] note 1"
    assert abs(read["Date"].datetime.timestamp() - time.time()) < 600
    away = await send(made, **server)
    assert away.may_retry


class Browser:
    """A browser's side of Web Push: it decrypts as RFC 8291 and RFC 8188 say."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._auth = b"sixteen bytes ok"

    @property
    def keys(self) -> dict[str, str]:
        return {"p256dh": _base64(self._point), "auth": _base64(self._auth)}

    @property
    def _point(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def read(self, body: bytes) -> bytes:
        salt, length = body[:16], body[20]
        sender, sealed_text = body[21 : 21 + length], body[21 + length :]
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
        shared = self._key.exchange(ec.ECDH(), public)
        info = b"WebPush: info\x00" + self._point + sender
        secret = HKDF(hashes.SHA256(), 32, self._auth, info).derive(shared)
        key = HKDF(hashes.SHA256(), 16, salt, b"Content-Encoding: aes128gcm\x00").derive(secret)
        nonce = HKDF(hashes.SHA256(), 12, salt, b"Content-Encoding: nonce\x00").derive(secret)
        plain = AESGCM(key).decrypt(nonce, sealed_text, None)
        assert plain[-1] == 2
        return plain[:-1]


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_push_message_is_read_by_its_browser_only_and_says_who_sends(
    tmp_path: Path,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "vapid.pem").write_bytes(pem)
    receiver, browser = Receiver(), Browser()
    receiver.status = 201
    values: dict[str, Any] = {
        "vapid_key_file": tmp_path / "vapid.pem",
        "vapid_subject": "mailto:o@example.com",
    }
    with serving(receiver.handler) as url:
        secrets = sealed(url=f"{url}/push/1", **browser.keys)
        found = await send(route(destination="web_push", url="", sealed=secrets), **values)
        assert found.is_delivered, found
        receiver.status = 410
        gone = await send(route(destination="web_push", url="", sealed=secrets), **values)
        assert (gone.is_delivered, gone.may_retry) == (False, False)
    path, headers, body = receiver.requests[0]
    assert path == "/push/1"
    assert b"note 1" not in body
    assert json.loads(browser.read(body))["body"] == "[high] note 1"
    found_headers = {name.lower(): value for name, value in headers.items()}
    assert found_headers["content-encoding"] == "aes128gcm"
    assert int(found_headers["ttl"]) > 0
    scheme, _, rest = found_headers["authorization"].partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    # The origin, of which the port is a part unless its scheme implies it.
    claims = jwt.decode(parts["t"], key.public_key(), algorithms=["ES256"], audience=url)
    assert scheme == "vapid"
    assert claims["sub"] == "mailto:o@example.com"
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert parts["k"] == _base64(point)
