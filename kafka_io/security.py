"""The security of connections to Kafka: one record of settings, and the credentials behind it.

The record is read from the environment variables `KAFKA_...`, and is the same for every client of
a process. A setting that contradicts another one is refused at start by its variable. Files are
read again when they have changed, so a new connection has the newest credentials; while a file
cannot be read, the credentials that were read last stay.

Secrets are in no representation, log line or error.
"""

import logging
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from kafka_io.errors import InvalidSetting
from kafka_io.settings import Settings

logger = logging.getLogger(__name__)

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_WITH_PASSWORD = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_OF_TLS = ("ssl_ca", "ssl_certificate", "ssl_key", "ssl_key_password")
_OF_PASSWORDS = ("sasl_username", "sasl_password")
_OF_OAUTH = ("oauth_client_id", "oauth_client_secret")
_OF_TOKENS = ("oauth_token_url", "oauth_scope", "oauth_extensions", "oauth_ca_file")


def _as_mechanism(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.upper() == "GSSAPI":
        raise ValueError(
            "Kerberos is not supported; use SCRAM-SHA-512, OAUTHBEARER, or a client certificate "
            "with the protocol SSL"
        )
    return value.upper()


class SecuritySettings(Settings):
    """Read from the environment variables `KAFKA_...`; an empty one counts as unset."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_", env_ignore_empty=True)

    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
    ] = "PLAINTEXT"
    """How brokers are spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL. With SSL or SASL_SSL
    their certificates and names are always checked."""

    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"] | None,
        BeforeValidator(_as_mechanism),
    ] = None
    """How a client proves who it is under SASL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER,
    or AWS_MSK_IAM (with the extra `msk-iam`). GSSAPI is not supported."""

    sasl_username: SecretStr | None = None
    """The user, or API key, of PLAIN and SCRAM."""

    sasl_username_file: Path | None = None
    """The file that has the user, in place of the variable."""

    sasl_password: SecretStr | None = None
    """The password, or API secret, of PLAIN and SCRAM."""

    sasl_password_file: Path | None = None
    """The file that has the password; read again when it changes."""

    ssl_ca: SecretStr | None = None
    """The certificates that brokers' certificates are checked with, in PEM; unset, the system's."""

    ssl_ca_file: Path | None = None
    """The file that has those certificates; read again when it changes."""

    ssl_certificate: SecretStr | None = None
    """This client's certificate, with those between it and its authority, in PEM."""

    ssl_certificate_file: Path | None = None
    """The file that has this client's certificate; read again when it changes."""

    ssl_key: SecretStr | None = None
    """The private key of the certificate, in PEM."""

    ssl_key_file: Path | None = None
    """The file that has the private key; read again when it changes."""

    ssl_key_password: SecretStr | None = None
    """The password of the private key, if it has one."""

    ssl_key_password_file: Path | None = None
    """The file that has the private key's password; read again when it changes."""

    oauth_token_url: str | None = None
    """The token endpoint of OAUTHBEARER, asked for tokens by client credentials."""

    oauth_client_id: SecretStr | None = None
    """The client's id at the token endpoint."""

    oauth_client_id_file: Path | None = None
    """The file that has the client's id."""

    oauth_client_secret: SecretStr | None = None
    """The client's secret at the token endpoint."""

    oauth_client_secret_file: Path | None = None
    """The file that has the client's secret; read again when it changes."""

    oauth_scope: str | None = None
    """The scope that is asked for, if the issuer wants one."""

    oauth_extensions: str | None = None
    """Extensions sent with the token, as `NAME=VALUE` with commas between: Confluent Cloud wants
    `logicalCluster` and `identityPoolId`."""

    oauth_ca_file: Path | None = None
    """The certificates that the token endpoint's certificate is checked with; unset, the
    system's."""

    aws_region: str | None = None
    """The region of an MSK cluster, for AWS_MSK_IAM; unset, that of `AWS_REGION`."""

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def has_sasl(self) -> bool:
        """Whether clients authenticate by SASL."""
        return self.security_protocol.startswith("SASL_")

    @property
    def is_plain(self) -> bool:
        """Whether there is neither encryption nor authentication."""
        return self.security_protocol == "PLAINTEXT"

    def files(self) -> Iterator[Path]:
        """Yield the files that hold credentials."""
        for name in (*_OF_TLS, *_OF_PASSWORDS, *_OF_OAUTH, "oauth_ca"):
            path: Path | None = getattr(self, f"{name}_file")
            if path is not None:
                yield path

    def region(self) -> str | None:
        """Return the region of AWS."""
        return (
            self.aws_region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse settings that contradict each other."""
        for name in (*_OF_TLS, *_OF_PASSWORDS, *_OF_OAUTH):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(
                    f"{_variable(name)} and {_variable(name)}_FILE are both set; unset one of them"
                )
        self._agree_on_sasl()
        self._agree_on_tls()
        self._agree_on_tokens()
        return self

    def _agree_on_sasl(self) -> None:
        protocol, mechanism = self.security_protocol, self.sasl_mechanism
        if mechanism is not None and not self.has_sasl:
            raise ValueError(
                f"KAFKA_SASL_MECHANISM is {mechanism}, but KAFKA_SECURITY_PROTOCOL is {protocol}, "
                "which has no SASL; set the protocol to SASL_SSL, or unset the mechanism"
            )
        if mechanism is None and self.has_sasl:
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL is {protocol}, but KAFKA_SASL_MECHANISM is not set; "
                "set it to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM"
            )
        if mechanism in _WITH_PASSWORD:
            self._need(_OF_PASSWORDS, f"KAFKA_SASL_MECHANISM is {mechanism}")
        else:
            self._refuse(_OF_PASSWORDS, "PLAIN or SCRAM as KAFKA_SASL_MECHANISM")

    def _agree_on_tls(self) -> None:
        if not self.has_tls:
            self._refuse(_OF_TLS, "SSL or SASL_SSL as KAFKA_SECURITY_PROTOCOL")
        if self._has("ssl_key"):
            self._need(("ssl_certificate",), f"{self._set_variable('ssl_key')} is set")
        if self._has("ssl_certificate"):
            self._need(("ssl_key",), f"{self._set_variable('ssl_certificate')} is set")
        if self._has("ssl_key_password"):
            self._need(("ssl_key",), f"{self._set_variable('ssl_key_password')} is set")

    def _agree_on_tokens(self) -> None:
        if self.sasl_mechanism == "AWS_MSK_IAM":
            if not self.has_tls:
                raise ValueError(
                    "KAFKA_SASL_MECHANISM is AWS_MSK_IAM, which needs SASL_SSL as "
                    "KAFKA_SECURITY_PROTOCOL"
                )
            if self.region() is None:
                raise ValueError(
                    "KAFKA_SASL_MECHANISM is AWS_MSK_IAM, but neither KAFKA_AWS_REGION nor "
                    "AWS_REGION is set"
                )
        elif self.aws_region is not None:
            raise ValueError(
                "KAFKA_AWS_REGION is set, which needs AWS_MSK_IAM as KAFKA_SASL_MECHANISM"
            )
        if self.sasl_mechanism != "OAUTHBEARER":
            self._refuse((*_OF_TOKENS, *_OF_OAUTH), "OAUTHBEARER as KAFKA_SASL_MECHANISM")
            return
        self._need(("oauth_token_url", *_OF_OAUTH), "KAFKA_SASL_MECHANISM is OAUTHBEARER")
        url = urlsplit(self.oauth_token_url or "")
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK):
            raise ValueError(
                "KAFKA_OAUTH_TOKEN_URL must begin with https://, since the client's secret is sent "
                "to it"
            )
        extensions_of(self)

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None or getattr(self, f"{name}_file", None) is not None

    def _set_variable(self, name: str) -> str:
        """Return the variable by which something is set."""
        return _variable(name) if getattr(self, name) is not None else f"{_variable(name)}_FILE"

    def _need(self, names: tuple[str, ...], reason: str) -> None:
        for name in names:
            if not self._has(name):
                also = f" nor {_variable(name)}_FILE" if f"{name}_file" in _FIELDS else ""
                neither = "neither " if also else ""
                raise ValueError(
                    f"{reason}, but {neither}{_variable(name)}{also} is {'' if also else 'not '}set"
                )

    def _refuse(self, names: tuple[str, ...], needed: str) -> None:
        for name in names:
            if self._has(name):
                raise ValueError(f"{self._set_variable(name)} is set, which needs {needed}")


_FIELDS = frozenset(SecuritySettings.model_fields)


def _variable(name: str) -> str:
    return f"KAFKA_{name.upper()}"


def extensions_of(settings: SecuritySettings) -> dict[str, str]:
    """Return the extensions of OAUTHBEARER by name.

    Raises:
        ValueError: they are not `NAME=VALUE` with commas between.
    """
    found = {}
    for part in (settings.oauth_extensions or "").split(","):
        if not part.strip():
            continue
        name, equals, value = part.strip().partition("=")
        if not equals or not name.isalpha() or not value or name == "auth":
            raise ValueError(
                f"KAFKA_OAUTH_EXTENSIONS has {part.strip()!r}; it must be NAME=VALUE with commas "
                "between, names of letters only, and none called auth"
            )
        found[name] = value
    return found


@dataclass(frozen=True, slots=True)
class Credentials:
    """The contents of the settings: texts, wherever they came from."""

    settings: SecuritySettings
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    ca: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    key_password: str | None = field(default=None, repr=False)
    client_id: str | None = field(default=None, repr=False)
    client_secret: str | None = field(default=None, repr=False)
    oauth_ca: str | None = field(default=None, repr=False)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the context of encrypted connections; None without encryption.

        Raises:
            InvalidSetting: a certificate or key cannot be used.
        """
        if not self.settings.has_tls:
            return None
        context = client_context(self.ca, self.settings.ssl_ca_file, "ssl_ca")
        if self.certificate is not None and self.key is not None:
            self._load_chain(context, self.certificate, self.key)
        return context

    def _load_chain(self, context: ssl.SSLContext, certificate: str, key: str) -> None:
        # The module `ssl` reads certificates and keys from files only.
        with NamedTemporaryFile("w", prefix="tapewire-", suffix=".pem") as chain:
            chain.write(f"{key.strip()}\n{certificate.strip()}\n")
            chain.flush()
            try:
                # Without a password, OpenSSL would ask for one at the terminal.
                context.load_cert_chain(chain.name, password=lambda: self.key_password or "")
            except (ssl.SSLError, ValueError) as error:
                reason = getattr(error, "reason", None) or "it is no key in PEM"
                raise InvalidSetting(
                    f"{_shown(self.settings, 'ssl_certificate')} and "
                    f"{_shown(self.settings, 'ssl_key')} cannot be used together "
                    f"({reason}); they must be a certificate and its private key in PEM, with "
                    "KAFKA_SSL_KEY_PASSWORD if the key is encrypted"
                ) from None


def client_context(ca: str | None, path: Path | None, name: str) -> ssl.SSLContext:
    """Return a context that checks servers' certificates and names.

    Args:
        ca: the authorities' certificates, in PEM; None for the system's.
        path: the file that they were read from, if any.
        name: the setting that has them.

    Raises:
        InvalidSetting: there is no certificate in the text.
    """
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        where = _variable(name) if path is None else f"{_variable(name)}_FILE ({path})"
        raise InvalidSetting(f"{where} has no certificate in PEM that can be used") from None


def _shown(settings: SecuritySettings, name: str) -> str:
    path: Path | None = getattr(settings, f"{name}_file")
    return _variable(name) if path is None else f"{_variable(name)}_FILE ({path})"


def read_credentials(settings: SecuritySettings) -> Credentials:
    """Read the credentials of settings, and try whether they can be used.

    Raises:
        InvalidSetting: a file cannot be read, or a certificate or key cannot be used.
    """
    credentials = Credentials(
        settings,
        username=_text(settings, "sasl_username"),
        password=_text(settings, "sasl_password"),
        ca=_text(settings, "ssl_ca"),
        certificate=_text(settings, "ssl_certificate"),
        key=_text(settings, "ssl_key"),
        key_password=_text(settings, "ssl_key_password"),
        client_id=_text(settings, "oauth_client_id"),
        client_secret=_text(settings, "oauth_client_secret"),
        oauth_ca=_text(settings, "oauth_ca"),
    )
    credentials.ssl_context()
    if credentials.oauth_ca is not None:
        client_context(credentials.oauth_ca, settings.oauth_ca_file, "oauth_ca")
    return credentials


def _text(settings: SecuritySettings, name: str) -> str | None:
    """Return the text of a setting or of its file; None if neither is set."""
    given: SecretStr | None = getattr(settings, name, None)
    if given is not None:
        return given.get_secret_value()
    path: Path | None = getattr(settings, f"{name}_file")
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise InvalidSetting(
            f"{_variable(name)}_FILE is {path}, which cannot be read: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise InvalidSetting(f"{_variable(name)}_FILE is {path}, which is no UTF-8 text") from None
    if not text:
        raise InvalidSetting(f"{_variable(name)}_FILE is {path}, which is empty")
    return text


_Stamp = tuple[tuple[str, int, int, int] | None, ...]


@dataclass(slots=True)
class _LastRead:
    stamp: _Stamp
    credentials: Credentials


_last_read: dict[SecuritySettings, _LastRead] = {}
_lock = threading.Lock()


def current_credentials(settings: SecuritySettings | None = None) -> Credentials:
    """Return the credentials of this process, with files as they are now.

    Args:
        settings: the settings; None for those of the environment.

    Raises:
        InvalidSetting: they cannot be used, and none could be used before.
    """
    settings = settings or SecuritySettings()
    stamp = tuple(map(_stamp, settings.files()))
    with _lock:
        last = _last_read.get(settings)
        if last is not None and last.stamp == stamp:
            return last.credentials
        try:
            credentials = read_credentials(settings)
        except InvalidSetting as error:
            if last is None:
                raise
            logger.warning("the last credentials of Kafka stay in use: %s", error)
            last.stamp = stamp
            return last.credentials
        _last_read[settings] = _LastRead(stamp, credentials)
        if last is not None and credentials != last.credentials:
            logger.info("new credentials of Kafka are used from the next connection on")
        return credentials


def _stamp(path: Path) -> tuple[str, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path), found.st_mtime_ns, found.st_size, found.st_ino


class NoSaslExchanges(logging.Filter):
    """Keeps passwords and tokens out of aiokafka's log: at DEBUG it would show each request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line may be logged."""
        args: Any = record.args.values() if isinstance(record.args, Mapping) else record.args
        return not any(type(value).__name__.startswith("SaslAuth") for value in args or ())
