"""TLS on the edge: the certificate that clients are shown, taken anew whenever its files change.

Certificates are renewed while an edge runs. Each new connection gets the newest certificate whose
key fits; streams that are open keep theirs. A pair of files of which only one has been written is
tried again, and the former certificate serves until then.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from uvicorn import Config

logger = logging.getLogger(__name__)

LOOK_S = 5.0
"""How often the files are looked at."""

_contexts: list[ssl.SSLContext] = []
"""The contexts of this process's servers; uvicorn makes them where no application is in sight."""


def make_context(config: Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Return the context of a server, as uvicorn asks for it.

    Raises:
        OSError: a file cannot be read, or the key does not fit the certificate.
    """
    del default  # it allows more than is safe
    assert config.ssl_certfile is not None
    key = config.ssl_keyfile
    context = context_of(Path(config.ssl_certfile), None if key is None else Path(key))
    _contexts.append(context)
    return context


def context_of(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return a new context with a certificate.

    Args:
        certificate: a PEM file with the certificate and those of its issuers.
        key: a PEM file with its key; None if that is in the same file.

    Raises:
        OSError: a file cannot be read, or the key does not fit the certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load(context, certificate, key)
    return context


async def follow_files(certificate: Path, key: Path | None) -> None:
    """Take a changed certificate into all contexts of this process, until cancelled."""
    loaded = _versions(certificate, key)
    while True:
        await asyncio.sleep(LOOK_S)
        found = _versions(certificate, key)
        if found == loaded:
            continue
        try:
            context_of(certificate, key)  # else a key without its certificate would end up in use
            for context in _contexts:
                _load(context, certificate, key)
        except OSError as error:
            logger.warning("the changed TLS certificate cannot be used yet: %s", reason_of(error))
            continue
        loaded = found
        logger.info("new connections get the changed TLS certificate")


def reason_of(error: OSError) -> str:
    """Return why a certificate cannot be used, without the paths of its files."""
    if isinstance(error, ssl.SSLError):
        return error.reason or "it is no pair of a certificate and its key, in PEM"
    return error.strerror or type(error).__name__


def _load(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    # Without a password OpenSSL would ask for that of an encrypted key on the terminal.
    context.load_cert_chain(certificate, key, password=lambda: b"")


def _versions(*files: Path | None) -> list[tuple[int, int]]:
    """Return what differs after a change of files; secrets of Kubernetes are links."""
    found = []
    for file in files:
        try:
            state = None if file is None else file.stat()
        except OSError:
            state = None
        found.append((0, 0) if state is None else (state.st_mtime_ns, state.st_ino))
    return found
