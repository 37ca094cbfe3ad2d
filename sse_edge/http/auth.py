"""Authenticates callers by their tokens, with the issuer's public keys.

Tokens are JWTs with RS256, ES256 or EdDSA, verified by a JSON Web Key Set from a URL or a file; or
with HS256, only if a shared secret is configured. An unknown key id makes the set be read again,
since issuers rotate keys.

An edge without an issuer is open: a client that was written for another system may send that
system's token, which says nothing here and is ignored.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt

from sse_edge.caller import ALL_SCOPES, Caller, Scope
from sse_edge.errors import Unauthorized, Unavailable, UnavailableReason
from sse_edge.settings import EdgeSettings, TokenRules

logger = logging.getLogger(__name__)

_ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_KEPT_S = 300.0
_AGAIN_AFTER_S = 10.0
"""The least seconds between two reads; a flood of unknown key ids must not flood the issuer."""
_ANSWER_S = 5.0
_NAME_CHARS_MAX = 256


class Authenticator:
    """Verifies tokens."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.rules = settings.issues
        self._leeway_s = settings.jwt_leeway_s
        self._keys = _Keys(self.rules.jwks) if self.rules and self.rules.jwks else None
        self._has_ignored = False

    async def caller(self, token: str | None) -> Caller | None:
        """Return the owner of a token; None on an open edge without a token, or with a foreign one.

        Raises:
            Unauthorized: the token is missing or invalid; the message says why. An open edge
                refuses only its own tokens, once they have expired.
            Unavailable: the issuer's keys cannot be read.
        """
        rules = self.rules
        if rules is None:
            self._ignore(token, "it has no issuer")
            return None
        if token is None:
            if rules.is_demo:
                return None
            raise Unauthorized(
                "a token is required: Authorization: Bearer TOKEN, ?token=TOKEN, or the cookie"
            )
        try:
            claims = await self._claims(rules, token)
        except jwt.InvalidTokenError as error:
            # The signature is verified before the times: an expired token is the issuer's own.
            if rules.is_demo and not isinstance(error, jwt.ExpiredSignatureError):
                self._ignore(token, str(error))
                return None
            raise Unauthorized(f"the token is invalid: {error}") from error
        return Caller(
            str(claims["sub"]),
            _tenant_in(claims, rules),
            float(claims["exp"]),
            _scopes_in(claims, rules),
        )

    def _ignore(self, token: str | None, reason: str) -> None:
        """Log the first token that says nothing to an open edge."""
        if token is not None and not self._has_ignored:
            self._has_ignored = True
            logger.warning("this edge is open and ignores a token: %s", reason)

    async def _claims(self, rules: TokenRules, token: str) -> Mapping[str, Any]:
        key: Any = rules.shared_secret
        algorithm = "HS256"
        if self._keys is not None:
            key, algorithm = await self._keys.find(jwt.get_unverified_header(token).get("kid"))
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=rules.issuer,
            audience=rules.audience,
            leeway=self._leeway_s,
            options={"require": ["exp", "sub", "iss"], "verify_aud": rules.audience is not None},
        )
        return claims


def _tenant_in(claims: Mapping[str, Any], rules: TokenRules) -> str | None:
    """Return the tenant that a token names; None if it names none.

    Raises:
        Unauthorized: the claim is no name.
    """
    found = _claim(claims, rules.tenant_claim)
    is_number = isinstance(found, int) and not isinstance(found, bool)
    if found is None or found == "":
        return None
    if not (isinstance(found, str) or is_number) or len(str(found)) > _NAME_CHARS_MAX:
        raise Unauthorized(
            f"the token is invalid: its claim {rules.tenant_claim} names no tenant; it must be a "
            f"text of at most {_NAME_CHARS_MAX} characters, or a whole number"
        )
    return str(found)


def _scopes_in(claims: Mapping[str, Any], rules: TokenRules) -> frozenset[Scope]:
    """Return what a token allows; names of scopes that are unknown here allow nothing.

    Raises:
        Unauthorized: the claim is neither a text nor a list of texts.
    """
    if rules.scope_claim is None:
        return ALL_SCOPES
    found = _claim(claims, rules.scope_claim)
    if found is None:
        return frozenset() if rules.is_scope_required else ALL_SCOPES
    names = found.split() if isinstance(found, str) else found
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Unauthorized(
            f"the token is invalid: its claim {rules.scope_claim} is neither a text of scopes "
            "with spaces between them nor a list of texts"
        )
    return ALL_SCOPES.intersection(names)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its name, or by the way to it with dots; None without one.

    The whole name comes first, since issuers name claims by addresses, which have dots.
    """
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


class _Keys:
    """The public keys of an issuer, by id."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._keys: dict[str | None, tuple[Any, str]] = {}
        self._read_s = float("-inf")
        self._reading = asyncio.Lock()

    async def find(self, key_id: str | None) -> tuple[Any, str]:
        """Return a key and its algorithm.

        Raises:
            jwt.InvalidTokenError: the issuer has no such key.
            Unavailable: the issuer's keys cannot be read.
        """
        async with self._reading:
            age_s = time.monotonic() - self._read_s
            if age_s > _KEPT_S or (key_id not in self._keys and age_s > _AGAIN_AFTER_S):
                await self._read()
        found = self._keys.get(key_id)
        if found is None and key_id is None and len(self._keys) == 1:
            found = next(iter(self._keys.values()))
        if found is None:
            raise jwt.InvalidTokenError(f"its issuer has no key {str(key_id)[:60]!r}")
        return found

    async def _read(self) -> None:
        try:
            found = json.loads(await self._fetched())["keys"]
            self._keys = {
                key.get("kid"): _key(key)
                for key in found
                if key.get("kty") in _ALGORITHMS and key.get("use", "sig") == "sig"
            }
        except (OSError, httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            logger.warning("the issuer's keys cannot be read from %s: %r", self._source, error)
            if not self._keys:
                message = f"the issuer's keys cannot be read from {self._source}"
                raise Unavailable(UnavailableReason.NO_KEYS, message) from error
        self._read_s = time.monotonic()

    async def _fetched(self) -> str:
        if not self._source.startswith(("https://", "http://")):
            return Path(self._source).read_text(encoding="utf-8")  # noqa: ASYNC240  # small, and local
        async with httpx.AsyncClient(timeout=_ANSWER_S) as client:
            return (await client.get(self._source)).raise_for_status().text


def _key(described: Mapping[str, Any]) -> tuple[Any, str]:
    algorithm = _ALGORITHMS[described["kty"]]
    return jwt.PyJWK(dict(described), algorithm).key, algorithm
