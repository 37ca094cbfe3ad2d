"""Authenticates callers by their tokens, with the issuer's public keys.

Tokens are JWTs with RS256, ES256 or EdDSA, verified by a JSON Web Key Set from a URL or a file; or
with HS256, only if a shared secret is configured.

An edge without an issuer is open: a client that was written for another system may send that
system's token, which says nothing here and is ignored.
"""

import logging
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import jwt

from sse_edge.caller import ALL_SCOPES, Caller, Scope
from sse_edge.errors import Unauthorized
from sse_edge.http.issuer_keys import IssuerKeys
from sse_edge.metrics.node_metrics import KeySetReads
from sse_edge.settings import EdgeSettings, TokenRules

logger = logging.getLogger(__name__)

_CHARS_MAX = 16_384
"""The longest token that is looked at; those with many groups have some 5,000 characters."""
_NAME_CHARS_MAX = 256
_REASON_CHARS_MAX = 200
_LATEST_S = 253_402_300_799
"""The last second of the year 9999; a later `exp` is probably in milliseconds."""
_TYPES = frozenset({"jwt", "at+jwt"})
"""The values of a token's `typ`: others are for something else than access, such as a logout."""


class Authenticator:
    """Verifies tokens."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.rules = settings.issues
        self._leeway_s = settings.jwt_leeway_s
        self._keys = IssuerKeys(self.rules.jwks) if self.rules and self.rules.jwks else None
        self._has_ignored = False
        self._shows_offsets = settings.cursor_secret is None
        """Whether cursors show offsets, and no tenant has been seen yet."""

    @property
    def key_set(self) -> KeySetReads | None:
        """The reads of the issuer's key set; None without one."""
        return None if self._keys is None else self._keys.reads

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep the issuer's keys fresh for as long as the context is open."""
        if self.rules is not None and not self.rules.is_demo and self.rules.audience is None:
            logger.warning(
                "TAPEWIRE_JWT_AUDIENCE is unset: tokens that the issuer has made for other "
                "services are accepted too"
            )
        if self._keys is None:
            yield
            return
        async with self._keys.refreshing():
            yield

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
            expires_s = _expiry_in(claims)
        except jwt.InvalidTokenError as error:
            # The signature is verified before the times: an expired token is the issuer's own.
            if rules.is_demo and not isinstance(error, jwt.ExpiredSignatureError):
                self._ignore(token, str(error))
                return None
            raise Unauthorized(f"the token is invalid: {error}") from None
        tenant = _tenant_in(claims, rules)
        if tenant is not None and self._shows_offsets and not rules.is_demo:
            self._shows_offsets = False
            logger.warning(
                "tokens name tenants, and TAPEWIRE_CURSOR_SECRET is unset: from ids, tenants "
                "read how much others write"
            )
        return Caller(
            str(claims["sub"]),
            tenant,
            expires_s,
            _scopes_in(claims, rules),
        )

    def _ignore(self, token: str | None, reason: str) -> None:
        """Log the first token that says nothing to an open edge."""
        if token is not None and not self._has_ignored:
            self._has_ignored = True
            shown = reason.encode("unicode_escape").decode()  # what it quotes may hold line breaks
            logger.warning("this edge is open and ignores a token: %s", shown)

    async def _claims(self, rules: TokenRules, token: str) -> Mapping[str, Any]:
        """Return the claims of a token that is verified.

        Raises:
            jwt.InvalidTokenError: it cannot be; the message repeats nothing of the token but names.
            Unavailable: the issuer's keys cannot be read.
        """
        if len(token) > _CHARS_MAX:
            raise jwt.InvalidTokenError(f"it has more than {_CHARS_MAX} characters")
        with _unreadable():
            header = jwt.get_unverified_header(token)
        kind = str(header.get("typ", "JWT")).lower().removeprefix("application/")
        if kind not in _TYPES:
            raise jwt.InvalidTokenError(f"its `typ` is {kind[:60]!r}; JWT and at+jwt are accepted")
        key: Any = rules.shared_secret
        algorithm = "HS256"
        if self._keys is not None:
            key, algorithm = await self._keys.find(header.get("kid"))
        with _unreadable():
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=rules.issuer,
                audience=rules.audience,
                leeway=self._leeway_s,
                options={
                    "require": ["exp", "sub", "iss"],
                    "verify_aud": rules.audience is not None,
                },
            )
        count = len(claims["sub"])
        if not 1 <= count <= _NAME_CHARS_MAX:
            raise jwt.InvalidTokenError(
                f"its `sub` has {count} characters; it must have 1 to {_NAME_CHARS_MAX}"
            )
        return claims


@contextmanager
def _unreadable() -> Generator[None]:
    """Raise `InvalidTokenError` for whatever a token makes its parser raise."""
    try:
        yield
    except jwt.InvalidTokenError as error:
        if type(error) is jwt.DecodeError:  # its message may quote the token
            raise jwt.InvalidTokenError("it is no JSON Web Token") from None
        error.args = (str(error)[:_REASON_CHARS_MAX],)
        raise
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise jwt.InvalidTokenError("a part of it cannot be read") from None


def _expiry_in(claims: Mapping[str, Any]) -> float:
    """Return when a token expires, in seconds since 1970.

    Raises:
        jwt.InvalidTokenError: its `exp` is no such time.
    """
    with _unreadable():
        expires_s = float(claims["exp"])
    if not expires_s <= _LATEST_S:
        raise jwt.InvalidTokenError("its `exp` is no time in seconds since 1970 before year 10000")
    return expires_s


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
