"""Tokens of OAUTHBEARER: from a token endpoint by client credentials, or signed for AWS MSK.

A token is shared by all connections of a process, and renewed when a fifth of its life is left. An
endpoint that fails then costs nothing as long as the present token is valid.
"""

import asyncio
import base64
import importlib
import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, NamedTuple
from urllib.parse import quote, urlencode

from aiokafka.abc import AbstractTokenProvider

from kafka_io.errors import InvalidSetting, NoToken
from kafka_io.security import (
    Credentials,
    SecuritySettings,
    client_context,
    current_credentials,
    extensions_of,
)

logger = logging.getLogger(__name__)

_ANSWER_S = 5.0
_ANSWER_BYTES_MAX = 1 << 17
_RENEWED_AT = 0.8
"""The part of a token's life after which another one is fetched."""
_LIFE_S = 300.0
"""How long a token is used whose answer does not say when it expires."""
_AGAIN_S = 1.0
"""How long an endpoint that has failed is left alone."""


class Token(NamedTuple):
    """A token to authenticate with."""

    value: str
    expires_s: float
    """When it expires, in seconds since 1970 UTC."""

    def __repr__(self) -> str:
        return f"Token(expires_s={self.expires_s:.0f})"


class TokenSource:
    """Fetches tokens, and keeps the present one. Its methods may be called from any thread."""

    def __init__(self, fetch: Callable[[], Token], clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._token: Token | None = None
        self._renew_s = 0.0
        self._failure: NoToken | None = None
        self._again_s = 0.0
        self._lock = threading.Lock()
        self.failures = 0
        """How often no token could be fetched."""

    @property
    def expires_s(self) -> float | None:
        """When the present token expires, in seconds since 1970; None before the first one."""
        token = self._token
        return None if token is None else token.expires_s

    @property
    def is_failing(self) -> bool:
        """Whether the last fetch has failed."""
        return self._failure is not None

    def token(self) -> Token:
        """Return a token that is valid; it may block for some seconds.

        Raises:
            NoToken: none can be had.
        """
        with self._lock:
            now_s = self._clock()
            token = self._token
            if token is not None and now_s < self._renew_s:
                return token
            is_valid = token is not None and now_s < token.expires_s
            if self._failure is None or now_s >= self._again_s:
                try:
                    self._token = token = self._fetch()
                except NoToken as error:
                    self.failures += 1
                    self._failure, self._again_s = error, self._clock() + _AGAIN_S
                    if is_valid:
                        logger.warning("the present token is used on: %s", error)
                else:
                    self._failure = None
                    now_s = self._clock()
                    self._renew_s = now_s + _RENEWED_AT * (token.expires_s - now_s)
                    return token
            if token is not None and is_valid:
                return token
            assert self._failure is not None
            raise NoToken(str(self._failure))


_sources: dict[SecuritySettings, TokenSource] = {}
_sources_lock = threading.Lock()


def token_source(settings: SecuritySettings) -> TokenSource:
    """Return the source of tokens that all clients of a process share."""
    with _sources_lock:
        if settings not in _sources:
            if settings.sasl_mechanism == "AWS_MSK_IAM":
                _sources[settings] = TokenSource(_msk_signer(settings.region() or ""))
            else:
                # Read at each fetch: the secret may be another one by then.
                _sources[settings] = TokenSource(lambda: fetch_token(current_credentials(settings)))
        return _sources[settings]


class TokenProvider(AbstractTokenProvider):
    """Gives aiokafka a token for each connection."""

    def __init__(self, settings: SecuritySettings) -> None:
        self._source = token_source(settings)
        self._extensions = extensions_of(settings)

    async def token(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]  # aiokafka's says None
        """Return a token that is valid."""
        found = await asyncio.to_thread(self._source.token)
        return found.value

    def extensions(self) -> dict[str, str]:
        """Return what is sent with the token."""
        return self._extensions


def librdkafka_callback(
    settings: SecuritySettings,
) -> Callable[[str], tuple[str, float, str, Mapping[str, str]]]:
    """Return the callback by which librdkafka obtains a token before its own expires."""
    source, extensions = token_source(settings), extensions_of(settings)

    def give(_: str) -> tuple[str, float, str, Mapping[str, str]]:
        token = source.token()
        return token.value, token.expires_s, "", extensions

    return give


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the request has the client's secret."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Return no request."""
        del req, fp, code, msg, headers, newurl


def fetch_token(credentials: Credentials, *, within_s: float = _ANSWER_S) -> Token:
    """Obtain a token from the token endpoint, by client credentials (RFC 6749, 4.4).

    Raises:
        NoToken: the endpoint does not answer with a token.
    """
    settings = credentials.settings
    url = settings.oauth_token_url or ""
    user = f"{quote(credentials.client_id or '')}:{quote(credentials.client_secret or '')}"
    form = {"grant_type": "client_credentials"}
    if settings.oauth_scope:
        form["scope"] = settings.oauth_scope
    request = urllib.request.Request(  # noqa: S310  # the settings allow http and https only
        url,
        data=urlencode(form).encode(),
        headers={
            "Accept": "application/json",
            "Authorization": f"Basic {base64.b64encode(user.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        },
    )
    context = client_context(credentials.oauth_ca, settings.oauth_ca_file, "oauth_ca")
    opener = urllib.request.build_opener(
        _NoRedirects(), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=within_s) as answer:
            body = answer.read(_ANSWER_BYTES_MAX + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise NoToken(f"the token endpoint {url} answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoToken(f"the token endpoint {url} does not answer: {reason}") from None
    return _token_in(body, url)


def _token_in(body: bytes, url: str) -> Token:
    """Return the token of an endpoint's answer, whose content no error shows."""
    try:
        found = json.loads(body) if len(body) <= _ANSWER_BYTES_MAX else None
    except ValueError:
        found = None
    value = found.get("access_token") if isinstance(found, dict) else None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise NoToken(f"the token endpoint {url} answers without an access token")
    assert isinstance(found, dict)
    life_s = found.get("expires_in")
    if not isinstance(life_s, int | float) or not 0 < life_s < 1e9:  # noqa: PLR2004  # 30 years
        life_s = _LIFE_S
    return Token(value, time.time() + life_s)


def _msk_signer(region: str) -> Callable[[], Token]:
    """Return a function that signs tokens for AWS MSK with the credentials of AWS.

    Raises:
        InvalidSetting: the library is not installed.
    """
    try:
        provider: Any = importlib.import_module("aws_msk_iam_sasl_signer.MSKAuthTokenProvider")
    except ImportError:
        raise InvalidSetting(
            "KAFKA_SASL_MECHANISM is AWS_MSK_IAM, which needs the library "
            "aws-msk-iam-sasl-signer-python; install tapewire[msk-iam]"
        ) from None

    def sign() -> Token:
        try:
            value, expires_ms = provider.generate_auth_token(region)
        except Exception as error:  # noqa: BLE001  # it has no error of its own
            # The library raises errors of many kinds, whose texts may show what it was given.
            raise NoToken(
                f"no token could be signed for MSK in {region}: {type(error).__name__}; are there "
                "credentials of AWS?"
            ) from None
        return Token(str(value), expires_ms / 1000)

    return sign
