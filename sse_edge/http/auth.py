"""Who is who: a caller's token, judged by the issuer's public keys.

RS256, ES256 and EdDSA, by a JSON Web Key Set from a URL or a file; HS256 where a shared secret is
configured, and only then. A key that is not known yet is looked for again: issuers rotate theirs.
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

from sse_edge.caller import Caller
from sse_edge.errors import Unauthorized, Unavailable
from sse_edge.settings import EdgeSettings, TokenRules

logger = logging.getLogger(__name__)

_ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_KEPT_S = 300.0
_AGAIN_AFTER_S = 10.0
"""A flood of tokens with made-up key ids is no flood of requests to the issuer."""
_ANSWER_S = 5.0


class Authenticator:
    """Judges tokens."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.rules = settings.issues
        self._leeway_s = settings.jwt_leeway_s
        self._keys = _Keys(self.rules.jwks) if self.rules and self.rules.jwks else None

    async def caller(self, token: str | None) -> Caller | None:
        """Whose token it is; None where there is none and none is asked for.

        Raises:
            Unauthorized: there is none, or it is not good; the message says why.
            Unavailable: the issuer's keys cannot be had.
        """
        rules = self.rules
        if rules is None or (token is None and rules.is_demo):
            return None
        if token is None:
            raise Unauthorized(
                "a token is needed: Authorization: Bearer TOKEN, ?token=TOKEN, or the cookie"
            )
        try:
            claims = await self._claims(rules, token)
        except jwt.InvalidTokenError as error:
            raise Unauthorized(f"the token is not good: {error}") from error
        tenant = claims.get("tenant")
        return Caller(
            str(claims["sub"]), None if tenant is None else str(tenant), float(claims["exp"])
        )

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


class _Keys:
    """An issuer's public keys, by their ids."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._keys: dict[str | None, tuple[Any, str]] = {}
        self._read_s = float("-inf")
        self._reading = asyncio.Lock()

    async def find(self, key_id: str | None) -> tuple[Any, str]:
        """A key, and the algorithm that goes with it.

        Raises:
            jwt.InvalidTokenError: the issuer has no such key.
            Unavailable: its keys cannot be had.
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
                one.get("kid"): _key(one)
                for one in found
                if one.get("kty") in _ALGORITHMS and one.get("use", "sig") == "sig"
            }
        except (OSError, httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            logger.warning("the issuer's keys cannot be read from %s: %r", self._where, error)
            if not self._keys:
                message = f"the issuer's keys cannot be read from {self._where}"
                raise Unavailable("no_keys", message) from error
        self._read_s = time.monotonic()

    async def _fetched(self) -> str:
        if not self._where.startswith(("https://", "http://")):
            return Path(self._where).read_text(encoding="utf-8")  # noqa: ASYNC240  # small, and local
        async with httpx.AsyncClient(timeout=_ANSWER_S) as client:
            return (await client.get(self._where)).raise_for_status().text


def _key(described: Mapping[str, Any]) -> tuple[Any, str]:
    algorithm = _ALGORITHMS[described["kty"]]
    return jwt.PyJWK(dict(described), algorithm).key, algorithm
