"""Settings of an edge node."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import NoDecode

from kafka_io.log_lines import LogFormat
from kafka_io.sealing import SealingKey
from kafka_io.settings import LogLevel, Settings, TopicPrefix, variable_of


def _listed(text: object) -> object:
    if not isinstance(text, str):
        return text
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _as_cursor_secret(secret: SecretStr) -> SecretStr:
    count = len(secret.get_secret_value().encode())
    if count < _CURSOR_SECRET_BYTES_MIN:
        raise ValueError(
            f"it has {count} bytes; cursors need at least {_CURSOR_SECRET_BYTES_MIN} random ones, "
            "as `openssl rand -base64 24` prints them"
        )
    return secret


def _as_long_secret(secret: SecretStr) -> SecretStr:
    count = len(secret.get_secret_value().encode())
    if count < _SECRET_BYTES_MIN:
        raise ValueError(
            f"it has {count} bytes; HS256 needs at least {_SECRET_BYTES_MIN} random ones, as "
            "`openssl rand -base64 32` prints them"
        )
    return secret


_SECRET_BYTES_MIN = 32
_CURSOR_SECRET_BYTES_MIN = 16
_FIREBASE_ISSUER = "https://securetoken.google.com/"
_FIREBASE_JWKS = (
    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
)


_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_MANAGEMENT_HOST = "127.0.0.1"

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s*?#@]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_HEADER = re.compile(r"[A-Za-z0-9-]+")

DEMO_ISSUER = "tapewire-demo"


@dataclass(frozen=True, slots=True)
class TokenRules:
    """How tokens are verified."""

    issuer: str
    audience: str | None
    jwks: str | None
    shared_secret: str | None
    is_demo: bool = False
    """Whether callers without a token, or with one of another issuer, are served too."""
    tenant_claim: str = "tenant"
    """The claim that names the caller's tenant; dots lead into objects."""
    scope_claim: str | None = None
    """The claim that names what a token allows; None if every token allows everything."""
    is_scope_required: bool = False
    """Whether a token without the claim allows nothing, in place of everything."""


class EdgeSettings(Settings):
    """Read from the environment variables `TAPEWIRE_...`, and `KAFKA_BOOTSTRAP_SERVERS`."""

    bootstrap_servers: str = Field(
        default="localhost:9092",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers"),
    )
    """The addresses of Kafka's brokers: `host:port`, separated by commas."""

    topic_prefix: TopicPrefix = ""
    """The prefix of every topic's name; several systems can share a cluster by it."""

    host: str = "127.0.0.1"
    """The address to listen on; beyond loopback only with authentication."""

    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on; 0 takes any free port."""

    workers: int = Field(default=1, ge=1, le=256)
    """The number of processes on the port; `--workers` overrides it."""

    log_level: LogLevel = "INFO"
    """The least severe lines that are logged: DEBUG, INFO, WARNING or ERROR."""

    log_format: LogFormat = "text"
    """How lines are logged: text, or json, an object a line."""

    notice: str | None = None
    """A sentence for everybody who opens the page, such as what a demo replays."""

    parts_file: Path | None = None
    """The file in which `tapewire up` writes what the parts of the system do, for `/health/ready`;
    it sets this variable itself."""

    cursor_secret: Annotated[SecretStr, AfterValidator(_as_cursor_secret)] | None = None
    """The secret of at least 16 bytes that encrypts cursors, the same on all nodes; several tenants
    need one. Unset, cursors show offsets, and a checksum detects accidents."""

    cursor_secrets_before: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Earlier secrets, separated by commas, whose cursors are accepted: for as long as the log
    keeps events after `TAPEWIRE_CURSOR_SECRET` was changed."""

    cursor_unsigned: bool = False
    """Whether cursors from before there was a secret are accepted: for as long as the log keeps
    events after `TAPEWIRE_CURSOR_SECRET` was set first."""

    cursor_secret_next: Annotated[SecretStr, AfterValidator(_as_cursor_secret)] | None = None
    """The secret that will be `TAPEWIRE_CURSOR_SECRET`: its cursors are accepted, and none are
    written. Set on all nodes first, it lets them take the secret one after another."""

    ds: bool | None = None
    """Whether the dialect of Durable Streams is served, below `/ds`. Its offsets can be sorted, and
    so they show how much is written. Unset, it is served where cursors are not encrypted."""

    tenant: str | None = None
    """The tenant of what callers without a token write, on an edge that needs none."""

    jwt_issuer: str | None = None
    """The issuer of tokens; if it is set, every request needs a token."""

    jwt_audience: str | None = None
    """The audience that tokens must have; unset, any."""

    jwt_jwks: str | None = None
    """The issuer's public keys: the URL or file of a JSON Web Key Set."""

    jwt_hs256_secret: Annotated[SecretStr, AfterValidator(_as_long_secret)] | None = None
    """A shared secret of at least 32 bytes instead of public keys, for development."""

    jwt_leeway_s: float = Field(default=30.0, ge=0, le=3_600)
    """By how many seconds clocks may differ when a token is verified."""

    jwt_tenant_claim: str | None = Field(default=None, min_length=1, max_length=256)
    """The claim that names a caller's tenant; dots lead into objects, as in `firebase.tenant`.
    Unset, it is `tenant`."""

    jwt_scope_claim: str | None = Field(default=None, min_length=1, max_length=256)
    """The claim that names what a token allows, out of `read`, `write`, `limits`, `ack` and
    `admin`: a text with spaces, or a list; dots lead into objects, as in `realm_access.roles`.
    Unset, every token allows everything."""

    jwt_scope_required: bool = False
    """Whether a token without the claim of `TAPEWIRE_JWT_SCOPE_CLAIM` allows nothing; otherwise it
    allows everything."""

    firebase_project: str | None = None
    """A Firebase project, which determines issuer, audience and keys."""

    token_cookie: str = "token"  # noqa: S105  # its name
    """The name of the cookie that may hold a token."""

    challenge_s: float = Field(default=60.0, gt=0, le=86_400)
    """How many seconds before its token expires a stream asks for a fresh one."""

    demo_jwks: str | None = None
    """The keys of `tapewire token`; with them tokens are accepted, and not required."""

    connections_per_user_max: int = Field(default=100, ge=1, le=1_000_000)
    """The most connections of one user."""

    writes_per_minute_max: int = Field(default=600, ge=1, le=1_000_000)
    """The most writes of one user, or of one address without a token, in a minute."""

    pending_jobs_max: int = Field(default=1_000, ge=1, le=1_000_000)
    """The most backtests of one user that have not ended; without tokens, of all callers."""

    limited_portfolios_max: int = Field(default=10_000, ge=1, le=1_000_000)
    """The most portfolios of one tenant that have limits of their own."""

    books_max: int = Field(default=10_000, ge=1, le=1_000_000)
    """The most books of one tenant that are not closed."""

    scenarios_max: int = Field(default=50, ge=1, le=1_000)
    """The most stress scenarios of one tenant. Each measure has the loss in each of them."""

    scenario_read_s: float = Field(default=60.0, ge=1, le=3_600)
    """How many seconds the edge may read past returns for a historical stress scenario."""

    notification_routes_max: int = Field(default=100, ge=1, le=10_000)
    """The most notification routes of one tenant that are not closed."""

    notification_key: SealingKey | None = None
    """The secret that encrypts the secrets of notification routes, the same for all edges and
    notifiers; unset, routes can only name secrets that notifiers have in files."""

    cors_origins: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_listed)] = None
    """The origins whose pages may read and write, separated by commas; `*` is not possible. Unset,
    pages of `localhost` and `127.0.0.1` on any port may where no issuer is set, and else none."""

    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = ()
    """The addresses and networks of proxies, separated by commas, whose `X-Forwarded-For` and
    `X-Forwarded-Proto` count; those of all others are ignored, also of this machine."""

    tls_cert: Path | None = None
    """The PEM file of the certificate, followed by those of its issuers; the edge then speaks
    HTTPS. A changed file is taken within some seconds."""

    tls_key: Path | None = None
    """The PEM file of the certificate's key; unset, it is in the same file."""

    metrics_token: bool = False
    """Whether `/metrics` needs a token, one with the scope `admin`."""

    docs_token: bool = False
    """Whether `/docs`, `/redoc` and `/openapi.json` need a token."""

    management_port: int | None = Field(default=None, ge=0, le=65535)
    """The port of `/metrics`, `/docs`, `/redoc` and `/openapi.json`, which the main port then does
    not serve; `/health/*` is on both, and so is TLS. 0 takes any free port. Unset, the main port
    serves them."""

    management_host: str = _MANAGEMENT_HOST
    """The address that the management port listens on; beyond loopback only with authentication."""

    cors_headers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = ()
    """More headers that pages of these origins may send, separated by commas, such as
    `traceparent, baggage, sentry-trace`."""

    hosts: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_listed)] = None
    """The names, without ports, by which clients reach the edge, separated by commas; for others it
    answers 421, except below `/health` and for `/metrics`. Names of this machine always count.
    Unset, any name counts where tokens are required, and no other name where they are not."""

    connections_per_ip_max: int = Field(default=100, ge=1, le=1_000_000)
    """The most streams of one address without a token, and as many other sockets, at least 64: of
    these, the ones that have been idle longest make room for new ones. The addresses of a /64 of
    IPv6 count as one."""

    memory_max_mib: int | None = Field(default=None, ge=64, le=1 << 24)
    """The most memory that a process may use, in MiB. Above 90 % of it the process refuses new
    streams. Unset, it is the limit of the container, if there is one."""

    routers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Routers with endpoints of your own, as `package.module:router`, separated by commas."""

    window_bytes_max: int = Field(default=8 << 20, ge=1 << 10, le=1 << 36)
    """The bytes of the newest records of one partition in memory; 8 MiB are some 20,000 alerts."""

    history_bytes_max: int = Field(default=64 << 20, ge=0, le=1 << 36)
    """The bytes of delivered events that are kept ready for clients that reconnect."""

    catch_up_bytes_max: int = Field(default=32 << 20, ge=1 << 10, le=1 << 36)
    """The bytes of older records that are kept for other clients that need them."""

    linger_s: float = Field(default=60.0, ge=0, le=86_400)
    """How many seconds a partition is followed after its last client has left."""

    readers_max: int = Field(default=4, ge=1, le=256)
    """The most consumers that read older records; each is one connection to Kafka."""

    framers: int = Field(default=2, ge=0, le=256)
    """Processes that unpack and render older records; they start when first needed."""

    write_bytes_max: int = Field(default=256 << 10, ge=1 << 10, le=64 << 20)
    """The bytes that one connection writes at a time, before others have their turn."""

    broadcast_share_max: float = Field(default=0.8, ge=0.01, le=1)
    """The share of a core's time that writing new events to crowds may take. Beyond it, events are
    gathered for up to 50 ms and written together; less of it saves CPU time and adds latency."""

    slow_close_s: float = Field(default=30.0, gt=0, le=86_400)
    """With `slow=close`, how many seconds a client may read nothing before it is closed."""

    ended_open_s: float = Field(default=3_600.0, ge=0, le=604_800)
    """How many seconds a stream of a backtest stays open after its last event for its client to
    close it; it is closed earlier where a limit of connections is reached."""

    ahead_s: float = Field(default=86_400.0, ge=0, le=1e12)
    """How far ahead of its time in the log the time of an event may be; 1e12 allows any time."""

    ping_s: float = Field(default=30.0, ge=0.1, le=3_600)
    """Seconds of silence before a `ping` is sent."""

    checkpoint_s: float = Field(default=15.0, ge=0.1, le=3_600)
    """How many seconds a client's id may lag behind records that were filtered out."""

    checkpoint_records: int = Field(default=500, ge=1, le=1_000_000)
    """How many filtered records a client's id may lag behind."""

    retry_ms: int = Field(default=2_000, ge=1, le=3_600_000)
    """How many milliseconds a client waits to reconnect: jittered between this and twice this."""

    node_heartbeat_s: float = Field(default=5.0, ge=0.1, le=3_600)
    """How many seconds lie between two heartbeats of a node, by which the others know it. A node
    without one for three times as long is no longer counted."""

    metadata_s: float = Field(default=2.0, ge=0.1, le=3_600)
    """How many seconds lie between two checks of topic ids, partition counts and leaders."""

    broker_patience_s: float = Field(default=3.0, ge=0.01, le=3_600)
    """How many seconds an opening stream waits for Kafka before it ends with an `error` event."""

    processor_patience_s: float = Field(default=3.0, ge=0.01, le=3_600)
    """How many seconds an answer about a job or task waits for a processor."""

    drain_s: float = Field(default=5.0, ge=0, le=3_600)
    """Over how many seconds the streams end after SIGTERM."""

    @property
    def is_clear(self) -> bool:
        """Whether tokens travel unencrypted beyond this machine, as far as the edge can know."""
        hosts = {self.host}
        if self.management_port is not None and (self.metrics_token or self.docs_token):
            hosts.add(self.management_host)
        is_local = self.is_open or hosts <= _LOOPBACK
        return not (is_local or self.tls_cert or self.trusted_proxies)

    @property
    def is_open(self) -> bool:
        """Whether callers need no token, since no issuer is configured."""
        return self.issues is None or self.issues.is_demo

    @property
    def issues(self) -> "TokenRules | None":
        """How tokens are verified; None for an open edge."""
        if self.firebase_project is not None:
            project = self.firebase_project
            rules = TokenRules(_FIREBASE_ISSUER + project, project, _FIREBASE_JWKS, None)
            return replace(rules, **self._claims)
        if self.jwt_issuer is not None:
            secret = self.jwt_hs256_secret
            shared = None if secret is None else secret.get_secret_value()
            rules = TokenRules(self.jwt_issuer, self.jwt_audience, self.jwt_jwks, shared)
            return replace(rules, **self._claims)
        if self.demo_jwks is not None:
            return TokenRules(
                DEMO_ISSUER, None, self.demo_jwks, None, is_demo=True, scope_claim="scope"
            )
        return None

    @property
    def _claims(self) -> Mapping[str, Any]:
        """The rules of tokens that say which claims count."""
        return {
            "tenant_claim": self.jwt_tenant_claim or "tenant",
            "scope_claim": self.jwt_scope_claim,
            "is_scope_required": self.jwt_scope_required,
        }

    @property
    def serves_durable_streams(self) -> bool:
        """Whether the dialect of Durable Streams is served."""
        return self.cursor_secret is None if self.ds is None else self.ds

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._contradict_nothing()
        rules = self.issues
        if rules is not None and (rules.jwks is None) == (rules.shared_secret is None):
            raise ValueError(
                "TAPEWIRE_JWT_ISSUER needs one of TAPEWIRE_JWT_JWKS (a URL or file of public keys) "
                "and TAPEWIRE_JWT_HS256_SECRET"
            )
        if self.jwt_tenant_claim is not None and self.cursor_secret is None:
            raise ValueError(
                "TAPEWIRE_JWT_TENANT_CLAIM is set, and TAPEWIRE_CURSOR_SECRET is not; with several "
                "tenants, set a secret, so that nobody reads from ids how much others write"
            )
        if self.cursor_secret is None and (self.cursor_secrets_before or self.cursor_unsigned):
            raise ValueError(
                "TAPEWIRE_CURSOR_SECRETS_BEFORE or TAPEWIRE_CURSOR_UNSIGNED is set, and "
                "TAPEWIRE_CURSOR_SECRET is not; cursors would no longer be encrypted"
            )
        for name in ("host", "management_host"):
            host = getattr(self, name)
            if self.is_open and host not in _LOOPBACK:
                raise ValueError(
                    f"{variable_of(type(self), name)} is {host}, but there is no authentication; "
                    "set TAPEWIRE_JWT_ISSUER or TAPEWIRE_FIREBASE_PROJECT, or listen on 127.0.0.1"
                )
        self._listen_apart()
        return self

    def _listen_apart(self) -> None:
        """Check that the management port is another one than the main port.

        Raises:
            ValueError: it is the same, or there is only an address for it.
        """
        if self.management_port is None and self.management_host != _MANAGEMENT_HOST:
            raise ValueError(
                "TAPEWIRE_MANAGEMENT_HOST is set, and TAPEWIRE_MANAGEMENT_PORT is not; metrics and "
                "documentation would stay on the main port"
            )
        if self.management_port and self.management_port == self.port:
            raise ValueError(
                f"TAPEWIRE_MANAGEMENT_PORT is {self.port}, as TAPEWIRE_PORT is; give it a port of "
                "its own, such as 9000"
            )

    def _contradict_nothing(self) -> None:
        """Check that no setting about tokens or origins is without effect.

        Raises:
            ValueError: one is; an edge would be more open than its operator means.
        """
        own = ("jwt_issuer", "jwt_audience", "jwt_jwks", "jwt_hs256_secret")
        given = [variable_of(type(self), name) for name in own if getattr(self, name) is not None]
        if self.firebase_project is not None and given:
            raise ValueError(
                f"{given[0]} contradicts TAPEWIRE_FIREBASE_PROJECT, which determines issuer, "
                "audience and keys; unset one of them"
            )
        if self.jwt_issuer is None and given:
            raise ValueError(
                f"{given[0]} is set, and TAPEWIRE_JWT_ISSUER is not; without an issuer no token "
                "would be required"
            )
        claims = ("jwt_tenant_claim", "jwt_scope_claim", "jwt_scope_required")
        given = [variable_of(type(self), name) for name in claims if getattr(self, name)]
        if self.jwt_issuer is None and self.firebase_project is None and given:
            raise ValueError(
                f"{given[0]} is set, and neither TAPEWIRE_JWT_ISSUER nor TAPEWIRE_FIREBASE_PROJECT "
                "is; without an issuer no token would be required"
            )
        if self.jwt_scope_required and self.jwt_scope_claim is None:
            raise ValueError(
                "TAPEWIRE_JWT_SCOPE_REQUIRED is set, and TAPEWIRE_JWT_SCOPE_CLAIM is not; name the "
                "claim that a token must have, such as scope"
            )
        self._name_pages_plainly()
        self._trust_plainly()

    def _trust_plainly(self) -> None:
        """Check proxies, certificates, and what needs a token.

        Raises:
            ValueError: a proxy is no address, or a setting is without effect.
        """
        for proxy in self.trusted_proxies:
            try:
                ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(
                    f"TAPEWIRE_TRUSTED_PROXIES has {proxy[:80]!r}, which is neither an address nor "
                    "a network, such as 10.0.0.7 or 10.0.0.0/8"
                ) from None
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("TAPEWIRE_TLS_KEY is set, and TAPEWIRE_TLS_CERT is not; set both")
        given = [name for name in ("metrics_token", "docs_token") if getattr(self, name)]
        if given and self.is_open:
            raise ValueError(
                f"{variable_of(type(self), given[0])} is set, but this edge is open; set "
                "TAPEWIRE_JWT_ISSUER or TAPEWIRE_FIREBASE_PROJECT"
            )

    def _name_pages_plainly(self) -> None:
        """Check that origins, hosts and headers are names.

        Raises:
            ValueError: one is a pattern, or something else than a name.
        """
        if self.cors_origins and "*" in self.cors_origins:
            raise ValueError(
                "TAPEWIRE_CORS_ORIGINS is *, which would let the pages of everybody read; name "
                "each origin, as in https://desk.example"
            )
        for origin in self.cors_origins or ():
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"TAPEWIRE_CORS_ORIGINS has {origin[:80]!r}, which is no origin; an origin is "
                    "a scheme, a host and perhaps a port, as in https://desk.example"
                )
        for host in self.hosts or ():
            if not _HOST.fullmatch(host):
                raise ValueError(
                    f"TAPEWIRE_HOSTS has {host[:80]!r}, which is no name of a host; give names or "
                    "addresses without scheme and port, as in edge, desk.example, 192.0.2.7"
                )
        for header in self.cors_headers:
            if not _HEADER.fullmatch(header):
                raise ValueError(
                    f"TAPEWIRE_CORS_HEADERS has {header[:80]!r}, which is no name of a header, "
                    "such as traceparent"
                )
