"""The settings of a notifier, and the secrets of routes."""

from collections.abc import Mapping
from functools import cached_property
from io import BytesIO
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode
from webpush import WebPush

from kafka_io.errors import Unsealed
from kafka_io.sealing import SealingKey, SecretBox
from schemas.events import NotificationRoute
from stream_processors.settings import ProcessorSettings

_SECRET_BYTES_MAX = 4_096
_PUSH_TTL_S = 86_400

Network = IPv4Network | IPv6Network


class UnusableSecret(ValueError):
    """A secret of a route, or a key of this notifier, is missing or cannot be used."""


def _networks(text: object) -> object:
    if not isinstance(text, str):
        return text
    networks = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            networks.append(ip_network(part, strict=False))
        except ValueError:
            raise ValueError(f"{part!r} is no address or network, such as 10.1.0.0/16") from None
    return tuple(networks)


class NotifierSettings(ProcessorSettings):
    """Read from the environment, beside the settings of all processors."""

    notification_key: SealingKey | None = None
    """The secret by which edges encrypt the secrets of routes, the same as theirs; unset, routes
    name files in `TAPEWIRE_NOTIFICATION_SECRETS`."""

    notification_secrets: Path | None = None
    """A folder with a file for each secret that a route names; those of a tenant's routes are in
    `tenants/TENANT` in it. Unset: routes can name none."""

    notification_networks: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = ()
    """Networks and addresses that messages may go to although they are not public, separated by
    commas."""

    notification_plain_http: bool = False
    """Whether messages may go to URLs that begin with `http://`."""

    notification_timeout_s: float = Field(default=10.0, ge=0.1, le=120)
    """How long a receiver may take to answer."""

    notification_retry_s: float = Field(default=86_400.0, ge=0, le=30 * 86_400)
    """For how long a message is tried again before it is given up."""

    notification_at_once: int = Field(default=100, ge=1, le=10_000)
    """How many messages are sent at once."""

    smtp_host: str | None = None
    """The mail server; unset: no e-mails are sent."""

    smtp_port: int = Field(default=587, ge=1, le=65_535)
    """Its port."""

    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection to it is encrypted."""

    smtp_username: str | None = None
    """The user of the mail server; unset: none."""

    smtp_password: SecretStr | None = None
    """The user's password."""

    smtp_password_file: Path | None = None
    """A file with the password, in place of `TAPEWIRE_SMTP_PASSWORD`."""

    smtp_from: str | None = None
    """The sender of e-mails, as `Tapewire <tapewire@example.com>`."""

    vapid_key_file: Path | None = None
    """A file with the private key, in PEM, by which push services know this system (P-256)."""

    vapid_subject: str | None = None
    """The address that push services write to about it, as `mailto:ops@example.com`; a page may be
    named instead, as `https://example.com/contact`."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.smtp_host is not None and self.smtp_from is None:
            raise ValueError(
                "TAPEWIRE_SMTP_HOST is set, and TAPEWIRE_SMTP_FROM is not; e-mails need a sender"
            )
        if self.smtp_password is not None and self.smtp_password_file is not None:
            raise ValueError(
                "TAPEWIRE_SMTP_PASSWORD and TAPEWIRE_SMTP_PASSWORD_FILE are both set; unset one"
            )
        return self

    def smtp_password_text(self) -> str | None:
        """Return the mail server's password; None for none.

        Raises:
            OSError: its file cannot be read.
        """
        if self.smtp_password_file is not None:
            return self.smtp_password_file.read_text().strip()
        return None if self.smtp_password is None else self.smtp_password.get_secret_value()

    def web_push(self) -> WebPush:
        """Return what encrypts messages for browsers, and signs them for their push services.

        Raises:
            UnusableSecret: there is no key, or it cannot be used.
        """
        if self.vapid_key_file is None or self.vapid_subject is None:
            raise UnusableSecret(
                "no key is set: TAPEWIRE_VAPID_KEY_FILE and TAPEWIRE_VAPID_SUBJECT"
            )
        try:
            private = self.vapid_key_file.read_bytes()
            public = load_pem_private_key(private, None).public_key()
        except (OSError, ValueError, TypeError) as error:
            raise UnusableSecret(
                f"TAPEWIRE_VAPID_KEY_FILE cannot be used: {type(error).__name__}"
            ) from None
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return WebPush(
            private_key=BytesIO(private),
            public_key=BytesIO(pem),
            subscriber=self.vapid_subject.removeprefix("mailto:"),
            ttl=_PUSH_TTL_S,
        )


class Secrets:
    """The secrets of routes: those that edges have sealed, and those in files of this notifier."""

    def __init__(self, settings: NotifierSettings) -> None:
        self._settings = settings

    @cached_property
    def _box(self) -> SecretBox | None:
        key = self._settings.notification_key
        return None if key is None else SecretBox(key)

    def of(self, route: NotificationRoute, tenant: str | None) -> Mapping[str, str]:
        """Return the secrets of a tenant's route, by name.

        Raises:
            UnusableSecret: one of them is missing, or cannot be read.
        """
        secrets: dict[str, str] = {}
        if route.sealed is not None:
            if self._box is None:
                raise UnusableSecret(
                    "the route's secrets are encrypted, and this notifier has no "
                    "TAPEWIRE_NOTIFICATION_KEY"
                )
            try:
                secrets |= self._box.open(route.sealed, tenant, route.name)
            except Unsealed as error:
                raise UnusableSecret(str(error)) from None
        for name, reference in route.secret_refs.items():
            secrets[name] = self._read(reference, tenant)
        return secrets

    def _read(self, reference: str, tenant: str | None) -> str:
        """Return the secret in a tenant's file; no reference leads out of the tenant's folder."""
        folder = self._settings.notification_secrets
        if folder is None:
            raise UnusableSecret(
                f"the route names the secret {reference!r}, and this notifier has no "
                "TAPEWIRE_NOTIFICATION_SECRETS"
            )
        if tenant is not None:
            folder = folder / "tenants" / _file_name(tenant)
        path = folder / _file_name(reference)
        try:
            with path.open("rb") as file:
                return file.read(_SECRET_BYTES_MAX).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UnusableSecret(
                f"the secret {reference!r} cannot be read from {path}: {type(error).__name__}"
            ) from None


def _file_name(text: str) -> str:
    """Return a text as the name of a file: letters, digits, `_`, `-`, `~`, inner dots and `%XX`."""
    name = quote(text, safe="")
    return name.replace(".", "%2E") if name.startswith(".") else name
