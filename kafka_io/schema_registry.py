"""A schema registry that speaks Confluent's REST API: its settings, and a client of it.

confluent-kafka's client does the requests. It is imported when the first one is made, so that a
part without a registry runs where the extra `registry` is not installed. Each call blocks for some
seconds at most: call it in a thread.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from kafka_io.errors import InvalidSetting, RegistryUnavailable, SchemaUnknown
from kafka_io.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

_RETRIES = 2
_RETRY_MS = 100
_RETRY_MS_MAX = 500
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_FOUND = 404
_REFUSED = (409, 422)
_SHOWN_CHARS = 300


class SchemaRegistrySettings(Settings):
    """Read from the environment variables `TAPEWIRE_...`; an empty one counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix="TAPEWIRE_SCHEMA_REGISTRY_", env_ignore_empty=True, populate_by_name=True
    )

    wire: Literal["single_object", "confluent"] = Field(
        default="single_object", validation_alias=AliasChoices("TAPEWIRE_WIRE", "wire")
    )
    """The framing of the values that are written: single_object, Avro's own, which needs no
    registry to be read; or confluent, a zero byte and the registry's id of the schema. Both are
    read, whatever is written."""

    url: str | None = None
    """The address of a schema registry with Confluent's REST API, as in
    https://registry.example.com or, of Apicurio, https://.../apis/ccompat/v7; several addresses of
    one registry with commas between. Unset: values in Confluent's framing are refused."""

    username: str | None = None
    """The user, or API key, of basic authentication."""

    password: SecretStr | None = None
    """The password, or API secret, of basic authentication."""

    password_file: Path | None = None
    """The file that has the password."""

    token: SecretStr | None = None
    """The bearer token."""

    token_file: Path | None = None
    """The file that has the bearer token; read again for each request."""

    logical_cluster: str = ""
    """The registry's id at Confluent Cloud, `lsrc-...`, which a bearer token needs there."""

    ca_file: Path | None = None
    """The file of the certificates, in PEM, that the registry's certificate is checked with;
    unset, the public ones."""

    certificate_file: Path | None = None
    """The file of this client's certificate, in PEM."""

    key_file: Path | None = None
    """The file of the private key of that certificate, in PEM."""

    key_password: SecretStr | None = None
    """The password of the private key, if it has one."""

    timeout_s: float = Field(default=3.0, ge=0.05, le=60)
    """How long a request waits for its answer, in seconds. It is tried three times."""

    wait_s: float = Field(default=10.0, ge=0, le=86_400)
    """How long a record waits, in seconds, whose schema is not known yet while the registry does
    not answer. Then it becomes a dead letter. An edge waits two seconds at most, and skips it."""

    schemas_max: int = Field(default=1_000, ge=1, le=100_000)
    """The most schemas that a process remembers by their ids."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse settings that contradict each other."""
        name = "TAPEWIRE_SCHEMA_REGISTRY_"
        if self.url is None:
            if self.wire == "confluent":
                raise ValueError(
                    f"TAPEWIRE_WIRE is confluent, which needs {name}URL for the ids of schemas"
                )
            return self
        for address in self.url.split(","):
            parts = urlsplit(address.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{name}URL must begin with http:// or https:// and name a host")
            if parts.username is not None:
                raise ValueError(
                    f"{name}URL has a user; set {name}USERNAME and {name}PASSWORD_FILE instead"
                )
        self._agree_on_credentials(name)
        return self

    def _agree_on_credentials(self, name: str) -> None:
        if self.password is not None and self.password_file is not None:
            raise ValueError(f"{name}PASSWORD and {name}PASSWORD_FILE are both set; unset one")
        if self.token is not None and self.token_file is not None:
            raise ValueError(f"{name}TOKEN and {name}TOKEN_FILE are both set; unset one")
        has_password = self.password is not None or self.password_file is not None
        if (self.username is not None) != has_password:
            raise ValueError(
                f"basic authentication needs {name}USERNAME and one of {name}PASSWORD and "
                f"{name}PASSWORD_FILE"
            )
        if self.username is not None and ":" in self.username:
            raise ValueError(f"{name}USERNAME has a colon, which ends a user's name")
        if self.username is not None and self.has_token:
            raise ValueError(f"{name}USERNAME and a bearer token are both set; unset one")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError(f"{name}CERTIFICATE_FILE and {name}KEY_FILE need each other")

    @property
    def has_token(self) -> bool:
        """Whether a bearer token authenticates this client."""
        return self.token is not None or self.token_file is not None


class RegisteredSchema(NamedTuple):
    """A schema under a subject."""

    id: int
    version: int
    text: str


class SchemaRegistry:
    """A client of the registry; all methods may be called by several threads."""

    def __init__(self, settings: SchemaRegistrySettings) -> None:
        """Make a client that has sent nothing.

        Raises:
            InvalidSetting: a file cannot be used, or the extra `registry` is not installed.
        """
        if settings.url is None:
            raise InvalidSetting("TAPEWIRE_SCHEMA_REGISTRY_URL is not set")
        self.url = settings.url
        """The registry's address, which has no secrets."""
        self._settings = settings
        self._lock = threading.Lock()
        self._client = _client_of(settings)
        has_secret = settings.has_token or settings.username is not None
        hosts = (urlsplit(address.strip()) for address in settings.url.split(","))
        if has_secret and any(
            host.scheme == "http" and host.hostname not in _LOOPBACK for host in hosts
        ):
            logger.warning(
                "TAPEWIRE_SCHEMA_REGISTRY_URL begins with http://: everybody on the network can "
                "read the password or token that is sent; https:// is safe"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a process that asks now and then never needs to."""
        self._client.close()

    def fetch(self, reference: bytes) -> str:
        """Return the text of the schema that a value refers to.

        Args:
            reference: a zero byte and an id of four bytes, or the byte 1 and a GUID of sixteen.

        Raises:
            SchemaUnknown: the registry has no such schema, or it is none of Avro.
            RegistryUnavailable: the registry does not answer, or refuses this client.
        """
        if reference[0] == 0:
            number = int.from_bytes(reference[1:])
            schema = self._call(lambda: self._client.get_schema(number))
        else:
            guid = str(UUID(bytes=reference[1:]))
            schema = self._call(lambda: self._client.get_schema_by_guid(guid))
        kind, text = schema.schema_type or "AVRO", schema.schema_str
        if kind != "AVRO" or not isinstance(text, str):
            raise SchemaUnknown(f"is of type {kind}; values of this system are Avro")
        if schema.references:
            names = ", ".join(str(reference.name) for reference in schema.references)
            raise SchemaUnknown(f"refers to other schemas ({names}); register it in one piece")
        return text

    def subjects(self) -> set[str]:
        """Return the names of all subjects.

        Raises:
            RegistryUnavailable: the registry does not answer, or refuses this client.
        """
        return set(self._call(self._client.get_subjects))

    def registered(self, subject: str) -> Sequence[RegisteredSchema]:
        """Return the schemas of a subject in the order of their versions; none without a subject.

        Raises:
            RegistryUnavailable: the registry does not answer, or refuses this client.
        """
        try:
            numbers = self._call(lambda: self._client.get_versions(subject))
            found = [
                self._call(partial(self._client.get_version, subject, number))
                for number in sorted(numbers)
            ]
        except SchemaUnknown:
            return ()
        return [
            RegisteredSchema(known.schema_id, known.version, known.schema.schema_str)
            for known in found
        ]

    def find_id(self, subject: str, text: str) -> int | None:
        """Return the id of a schema; None if its subject does not have it.

        Raises:
            RegistryUnavailable: the registry does not answer, or refuses this client.
        """
        try:
            return int(
                self._call(lambda: self._client.lookup_schema(subject, _schema(text))).schema_id
            )
        except SchemaUnknown:
            return None

    def register(self, subject: str, text: str) -> int:
        """Register a schema under a subject, and return its id.

        Raises:
            SchemaUnknown: the registry refuses it; the message says why.
            RegistryUnavailable: the registry does not answer, or refuses this client.
        """
        return int(self._call(lambda: self._client.register_schema(subject, _schema(text))))

    def compatibility(self, subject: str) -> str | None:
        """Return the level of compatibility that a subject has of its own; None if it has none.

        Raises:
            RegistryUnavailable: the registry does not answer, or refuses this client.
        """
        try:
            return str(self._call(lambda: self._client.get_compatibility(subject)))
        except SchemaUnknown:
            return None

    def set_compatibility(self, subject: str, level: str) -> None:
        """Set the level of compatibility of a subject.

        Raises:
            SchemaUnknown: the registry refuses the level; the message says why.
            RegistryUnavailable: the registry does not answer, or refuses this client.
        """
        self._call(lambda: self._client.set_compatibility(subject, level))

    def _call(self, request: Callable[[], T]) -> T:
        from confluent_kafka.schema_registry.error import (  # noqa: PLC0415  # of an extra
            SchemaRegistryError,
        )

        try:
            return request()
        except SchemaRegistryError as error:
            text = str(error.error_message)[:_SHOWN_CHARS]
            if error.http_status_code == _NOT_FOUND:
                raise SchemaUnknown(f"is not known there ({text})") from error
            if error.http_status_code in _REFUSED:
                raise SchemaUnknown(f"is refused there ({text})") from error
            raise RegistryUnavailable(
                f"the schema registry at {self.url} answers {error.http_status_code}: {text}"
            ) from error
        except Exception as error:  # HTTP's, TLS's, and those of an answer that is no registry's
            raise RegistryUnavailable(
                f"the schema registry at {self.url} cannot be asked: "
                f"{type(error).__name__}: {str(error)[:_SHOWN_CHARS]}"
            ) from error


def _schema(text: str) -> Any:
    from confluent_kafka.schema_registry import Schema  # noqa: PLC0415  # of an extra

    return Schema(text, "AVRO")


def _client_of(settings: SchemaRegistrySettings) -> Any:
    try:
        from confluent_kafka.schema_registry import (  # noqa: PLC0415  # of an extra
            SchemaRegistryClient,
        )
    except ImportError as error:
        raise InvalidSetting(
            "TAPEWIRE_SCHEMA_REGISTRY_URL is set, which needs the extra `registry`: "
            f"pip install 'tapewire[registry]' ({error})"
        ) from error
    options: dict[str, Any] = {
        "url": settings.url,
        "timeout": settings.timeout_s,
        "max.retries": _RETRIES,
        "retries.wait.ms": _RETRY_MS,
        "retries.max.wait.ms": _RETRY_MS_MAX,
        "cache.capacity": settings.schemas_max,
    }
    for name, path in (
        ("ssl.ca.location", settings.ca_file),
        ("ssl.certificate.location", settings.certificate_file),
        ("ssl.key.location", settings.key_file),
    ):
        if path is not None:
            options[name] = str(path)
    if settings.key_password is not None:
        options["ssl.key.password"] = settings.key_password.get_secret_value()
    try:
        if settings.username is not None:
            password = _secret(settings.password, settings.password_file)
            options["basic.auth.user.info"] = f"{settings.username}:{password}"
        if settings.has_token:
            _secret(settings.token, settings.token_file)  # a file that is missing is refused now
            options |= {
                "bearer.auth.credentials.source": "CUSTOM",
                "bearer.auth.custom.provider.function": lambda _: _bearer_fields(settings),
                "bearer.auth.custom.provider.config": {},
            }
        return SchemaRegistryClient(options)
    except (OSError, ValueError) as error:
        raise InvalidSetting(
            f"a file of the schema registry's settings cannot be used: {error}"
        ) from error


def _bearer_fields(settings: SchemaRegistrySettings) -> dict[str, str]:
    return {
        "bearer.auth.token": _secret(settings.token, settings.token_file),
        "bearer.auth.logical.cluster": settings.logical_cluster,
    }


def _secret(value: SecretStr | None, path: Path | None) -> str:
    if value is not None:
        return value.get_secret_value()
    assert path is not None
    return path.read_text(encoding="utf-8").strip()
