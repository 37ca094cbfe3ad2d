"""The public keys of an issuer of tokens, read in the background.

A task reads the JSON Web Key Set at start and every few minutes, so a token with a known key never
waits. A token with an unknown key lets the set be read again, since issuers rotate keys; all such
tokens wait for the same read, and a read that has failed, or has ended a moment ago, is not
repeated for them. An answer without a usable key counts as a failure: what was known stays.

Log lines and answers name neither the address nor the file of the set, which may hold secrets.
"""

import asyncio
import json
import logging
import stat
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from sse_edge.errors import Unavailable, UnavailableReason
from sse_edge.metrics.node_metrics import KeySetReads

logger = logging.getLogger(__name__)

KEPT_S = 300.0
"""The seconds between two reads while nothing unknown is asked for."""
AGAIN_AFTER_S = 10.0
"""The least seconds between two reads; a flood of unknown key ids must not flood the issuer."""
ANSWER_S = 5.0
"""How long the issuer may take for its whole answer."""
BYTES_MAX = 256 << 10
"""The longest answer that is read; sets of keys have some kilobytes."""
RSA_BITS_MIN = 2_048

_ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_CURVES = {"ES256": "P-256"}
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth")
_SHOWN_CHARS = 60
_URLS = ("https://", "http://")


class _UnusableSet(Exception):
    """The set of keys cannot be read; the message says why, and names no address."""


class IssuerKey(NamedTuple):
    """A public key, and the one algorithm of its signatures."""

    key: Any
    algorithm: str


Fetch = Callable[[], Awaitable[bytes]]


class IssuerKeys:
    """The public keys of an issuer, by id."""

    def __init__(self, source: str, fetch: Fetch | None = None) -> None:
        """Know no key yet; `refreshing` reads them.

        Args:
            source: the URL or the file of the set.
            fetch: returns the bytes of the set; None for those at the source.
        """
        self.reads = KeySetReads()
        self._fetch: Fetch = fetch or (lambda: _fetched(source))
        self._keys: Mapping[str | None, IssuerKey] = {}
        self._tried_s = -inf
        """When the last read ended, in the loop's time; infinite while one is in progress."""
        self._failure: str | None = None
        self._is_wanted = asyncio.Event()
        self._has_ended = asyncio.Event()
        """Set when the read in progress, or the next one, has ended."""
        self._warned: set[str] = set()

    @asynccontextmanager
    async def refreshing(self) -> AsyncGenerator[None]:
        """Read the keys now and again, for as long as the context is open."""
        async with asyncio.TaskGroup() as tasks:
            refresh = tasks.create_task(self._refresh())
            try:
                yield
            finally:
                refresh.cancel()

    async def find(self, key_id: str | None) -> IssuerKey:
        """Return a key; one that is known without waiting.

        Raises:
            jwt.InvalidTokenError: the issuer has no such key.
            Unavailable: the issuer's keys cannot be read, and so whether it has the key.
        """
        found = self._known(key_id)
        if found is None:
            await self._wait_for_read()
            found = self._known(key_id)
        if found is not None:
            return found
        if self._failure is not None:
            raise Unavailable(
                UnavailableReason.NO_KEYS, "the public keys of the tokens' issuer cannot be read"
            )
        raise jwt.InvalidTokenError(f"its issuer has no key {str(key_id)[:_SHOWN_CHARS]!r}")

    def _known(self, key_id: str | None) -> IssuerKey | None:
        found = self._keys.get(key_id)
        if found is None and key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return found

    async def _wait_for_read(self) -> None:
        """Wait for the read in progress, or for a new one if the last is long enough ago."""
        if 0 <= asyncio.get_running_loop().time() - self._tried_s < AGAIN_AFTER_S:
            return
        self._is_wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await self._has_ended.wait()
                return
        self._failure = self._failure or "it does not answer in time"

    async def _refresh(self) -> None:
        while True:
            self._tried_s = inf
            await self._read()
            self._is_wanted.clear()  # those who have asked meanwhile get this answer
            self._tried_s = asyncio.get_running_loop().time()
            self._has_ended.set()
            self._has_ended = asyncio.Event()
            pause_s = KEPT_S if self._failure is None else AGAIN_AFTER_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._is_wanted.wait()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                found = self._usable(await self._fetch())
        except TimeoutError:
            failure = f"it does not answer within {ANSWER_S:g} s"
        except _UnusableSet as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001  # whatever an issuer sends, the edge goes on
            failure = type(error).__name__
        else:
            if self._failure is not None:
                logger.info("the keys of TAPEWIRE_JWT_JWKS can be read again")
            self._keys, self._failure = found, None
            self.reads.is_failing, self.reads.succeeded_s = False, time.time()
            return
        self.reads.is_failing = True
        self.reads.failures += 1
        if failure != self._failure:
            kept = f"; the {len(self._keys)} known keys stay valid" if self._keys else ""
            logger.warning("the keys of TAPEWIRE_JWT_JWKS cannot be read: %s%s", failure, kept)
        self._failure = failure

    def _usable(self, text: bytes) -> Mapping[str | None, IssuerKey]:
        """Return the keys of a set that can verify tokens; log why others cannot.

        Raises:
            _UnusableSet: it has none.
        """
        try:
            described = json.loads(text)["keys"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _UnusableSet("the answer is no JSON Web Key Set") from None
        if not isinstance(described, list):
            raise _UnusableSet("the answer is no JSON Web Key Set: its `keys` are no list")
        found: dict[str | None, IssuerKey] = {}
        for position, key in enumerate(described):
            try:
                usable = _key_of(key)
            except _UnusableSet as error:
                self._warn(f"key {position} of TAPEWIRE_JWT_JWKS is passed over: {error}")
                continue
            if usable is not None:
                found[key.get("kid")] = usable
        if not found:
            raise _UnusableSet("the set has no key that can verify tokens")
        return found

    def _warn(self, message: str) -> None:
        if message not in self._warned and len(self._warned) < _WARNINGS_MAX:
            self._warned.add(message)
            logger.warning("%s", message)


_WARNINGS_MAX = 100


def _key_of(described: object) -> IssuerKey | None:
    """Return a key of a set; None for one that is for something else than RS256, ES256 or EdDSA.

    Raises:
        _UnusableSet: it should verify tokens, and cannot.
    """
    if not isinstance(described, dict):
        raise _UnusableSet("it is no object")
    kind = described.get("kty")
    algorithm = _ALGORITHMS.get(kind) if isinstance(kind, str) else None
    if algorithm is None or described.get("use", "sig") != "sig":
        return None
    key_id = described.get("kid")
    if not isinstance(key_id, str | None):
        raise _UnusableSet("its `kid` is no text")
    for name, expected in (("alg", algorithm), ("crv", _CURVES.get(algorithm))):
        given = described.get(name, expected)
        if expected is not None and given != expected:
            raise _UnusableSet(f"its `{name}` is {str(given)[:_SHOWN_CHARS]!r}, not {expected}")
    public = {name: value for name, value in described.items() if name not in _PRIVATE}
    try:
        key = jwt.PyJWK(public, algorithm).key
    except Exception as error:  # noqa: BLE001  # parsers of keys raise what they please
        raise _UnusableSet(f"it is damaged ({type(error).__name__})") from None
    if isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS_MIN:
        raise _UnusableSet(f"it has {key.key_size} bits; at least {RSA_BITS_MIN} are needed")
    return IssuerKey(key, algorithm)


async def _fetched(source: str) -> bytes:
    """Return the bytes of a URL or a file.

    Raises:
        _UnusableSet: there is no answer, or one that is too long.
    """
    if not source.startswith(_URLS):
        return await asyncio.to_thread(_content_of, Path(source))
    # Without compression an answer has no more bytes than were sent.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    try:
        async with (
            httpx.AsyncClient(timeout=ANSWER_S, headers=headers) as client,
            client.stream("GET", source, follow_redirects=False) as response,
        ):
            if response.is_redirect:
                raise _UnusableSet("it redirects to another address; set that one")
            if not response.is_success:
                raise _UnusableSet(f"it answers with status {response.status_code}")
            return await _bounded(response)
    except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _UnusableSet(type(error).__name__) from None


async def _bounded(response: httpx.Response) -> bytes:
    found = bytearray()
    async for chunk in response.aiter_raw():
        found += chunk
        if len(found) > BYTES_MAX:
            raise _UnusableSet(f"the answer has more than {BYTES_MAX} bytes")
    return bytes(found)


def _content_of(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe might never answer
            raise _UnusableSet("it is no regular file")
        with path.open("rb") as file:
            found = file.read(BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise _UnusableSet(reason or type(error).__name__) from None
    if len(found) > BYTES_MAX:
        raise _UnusableSet(f"the file has more than {BYTES_MAX} bytes")
    return found
