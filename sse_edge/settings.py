"""How an edge node reaches Kafka, and what it allows."""

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _listed(text: object) -> object:
    if not isinstance(text, str):
        return text
    return tuple(part.strip() for part in text.split(",") if part.strip())


_FIREBASE_ISSUER = "https://securetoken.google.com/"
_FIREBASE_JWKS = (
    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
)


_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

DEMO_ISSUER = "tapewire-demo"


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What makes a token good."""

    issuer: str
    audience: str | None
    jwks: str | None
    shared_secret: str | None
    is_demo: bool = False
    """Whether callers without a token are served as well."""


class EdgeSettings(BaseSettings):
    """Read from the environment: `TAPEWIRE_...`, or the name that a field gives."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    bootstrap_servers: str = Field(
        default="localhost:9092",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers"),
    )
    """Kafka's addresses, `host:port` with commas between."""

    topic_prefix: str = ""
    """Stands before every topic's name, so that several systems can share a cluster."""

    host: str = "127.0.0.1"
    """Where to listen. Beyond loopback only where callers are asked who they are."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Where to listen; 0 for any free port."""

    workers: int = Field(default=1, ge=1)
    """Processes on the one port; `--workers` overrides it."""

    cursor_secret: SecretStr | None = None
    """Signs cursors; the same on all nodes. Without it a checksum guards them against accidents."""

    jwt_issuer: str | None = None
    """Who gives out tokens; with it, nobody is served without one."""

    jwt_audience: str | None = None
    """Whom tokens are for; unset, any."""

    jwt_jwks: str | None = None
    """The issuer's public keys: a URL or a file, as a JSON Web Key Set."""

    jwt_hs256_secret: SecretStr | None = None
    """A shared secret instead of public keys. For development."""

    jwt_leeway_s: float = Field(default=30.0, ge=0)
    """How far clocks may be apart."""

    firebase_project: str | None = None
    """A Firebase project, which says issuer, audience and keys."""

    token_cookie: str = "token"  # noqa: S105  # its name
    """The cookie that a token may come in."""

    challenge_s: float = Field(default=60.0, gt=0)
    """How long before its token's end a stream asks for a fresh one."""

    demo_jwks: str | None = None
    """Keys of `tapewire token`: who has such a token is known, and who has none is served, too."""

    connections_per_user_max: int = Field(default=100, ge=1)
    """What one user may hold, from wherever."""

    writes_per_minute_max: int = Field(default=600, ge=1)
    """What one user, or one address without a token, may have a node write."""

    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Origins whose pages may read the streams, with commas between; never `*`."""

    connections_per_ip_max: int = Field(default=100, ge=1)
    """What one address may hold; as the clients' original server has it."""

    window_bytes_max: int = Field(default=8 << 20, ge=1 << 10)
    """Of the newest records of one partition that are kept in memory: some 20,000 alerts."""

    history_bytes_max: int = Field(default=64 << 20, ge=0)
    """Of what was told to everybody, kept ready for those who come back."""

    catch_up_bytes_max: int = Field(default=32 << 20, ge=1 << 10)
    """Of what was read from before the windows, kept for others who need it."""

    linger_s: float = Field(default=60.0, ge=0)
    """How long a partition is followed after its last reader has gone."""

    readers_max: int = Field(default=4, ge=1)
    """Consumers that read what lies before the windows; each costs one connection to Kafka."""

    framers: int = Field(default=2, ge=0)
    """Processes that word what lies before the windows; they start when first needed."""

    write_bytes_max: int = Field(default=256 << 10, ge=1 << 10)
    """What one connection takes at a time; others have their turn between."""

    slow_close_s: float = Field(default=30.0, gt=0)
    """With `slow=close`: how long a client may take nothing of what waits for it."""

    ping_s: float = Field(default=30.0, gt=0)
    """Silence after which a `ping` is sent."""

    checkpoint_s: float = Field(default=15.0, gt=0)
    """How long a client's cursor may lag behind what was filtered out for it."""

    checkpoint_records: int = Field(default=500, ge=1)
    """How many filtered records it may lag behind; looked at once a second at most."""

    retry_ms: int = Field(default=2_000, ge=1)
    """When a client should come back: jittered between this and twice as much."""

    metadata_s: float = Field(default=2.0, gt=0)
    """How often topic ids, partition counts and leaders are looked at."""

    broker_patience_s: float = Field(default=3.0, gt=0)
    """How long an opening stream waits for Kafka before it ends with an `error` event."""

    processor_patience_s: float = Field(default=3.0, gt=0)
    """How long an answer about a job or task waits for a processor to have noted it."""

    drain_s: float = Field(default=5.0, ge=0)
    """Over how long the streams end after SIGTERM."""

    @property
    def issues(self) -> "TokenRules | None":
        """How tokens are judged; None where nobody is asked for one."""
        if self.firebase_project is not None:
            project = self.firebase_project
            return TokenRules(_FIREBASE_ISSUER + project, project, _FIREBASE_JWKS, None)
        if self.jwt_issuer is not None:
            secret = self.jwt_hs256_secret
            shared = None if secret is None else secret.get_secret_value()
            return TokenRules(self.jwt_issuer, self.jwt_audience, self.jwt_jwks, shared)
        if self.demo_jwks is not None:
            return TokenRules(DEMO_ISSUER, None, self.demo_jwks, None, is_demo=True)
        return None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rules = self.issues
        if rules is not None and (rules.jwks is None) == (rules.shared_secret is None):
            raise ValueError(
                "TAPEWIRE_JWT_ISSUER needs one of TAPEWIRE_JWT_JWKS (a URL or file of public keys) "
                "and TAPEWIRE_JWT_HS256_SECRET"
            )
        is_open = rules is None or rules.is_demo
        if is_open and self.host not in _LOOPBACK:
            raise ValueError(
                f"TAPEWIRE_HOST is {self.host}, and nobody is asked who they are; set "
                "TAPEWIRE_JWT_ISSUER or TAPEWIRE_FIREBASE_PROJECT, or listen on 127.0.0.1"
            )
        return self
