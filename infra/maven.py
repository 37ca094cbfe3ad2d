"""Fetches locked files from a Maven repository, several at a time, into the user's local one.

A file that has another SHA-256 than the locked one is not used.
"""

import hashlib
import tomllib
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile

from infra.errors import DownloadFailed

LOCK = Path(__file__).with_name("kafka.lock.toml")

_AT_ONCE = 8
_TRIES = 3
_TIMEOUT_S = 30.0


def kafka_jars() -> Mapping[str, str]:
    """Return the paths of the broker's jars in a Maven repository, with the SHA-256 of each."""
    jars: Mapping[str, str] = tomllib.loads(LOCK.read_text(encoding="utf-8"))["sha256"]
    return jars


def local_repository() -> Path:
    """Return the folder in which Maven, too, keeps what it has downloaded."""
    return Path.home() / ".m2" / "repository"


def fetch(locked: Mapping[str, str], url: str | None) -> list[Path]:
    """Return files of the local repository, and download those that it does not have.

    Args:
        locked: the paths in the repository, with the SHA-256 of each file.
        url: the Maven repository; None for Maven Central.

    Raises:
        DownloadFailed: a file cannot be downloaded, or is not the locked one.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        fetch_file = partial(_fetch_file, url, local_repository())
        return list(pool.map(fetch_file, locked.keys(), locked.values()))


def _maven_central() -> str:
    # Commands that use a Kafka of your own run where this is not installed.
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415  # see above

    return MAVEN_CENTRAL_URL


def _fetch_file(repository: str | None, folder: Path, path: str, sha256: str) -> Path:
    file = folder / path
    if not file.exists():
        url = (repository or _maven_central()).rstrip("/")
        content = _download(f"{url}/{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        if hashlib.sha256(content).hexdigest() == sha256:
            with NamedTemporaryFile(dir=file.parent, delete=False) as unfinished:
                unfinished.write(content)
            Path(unfinished.name).replace(file)
            return file
        raise DownloadFailed(f"{url}/{path} is not the locked file: its SHA-256 is another one")
    if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
        raise DownloadFailed(f"{file} is not the locked file; remove it, and start again")
    return file


def _download(url: str) -> bytes:
    for attempt in range(1, _TRIES + 1):
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310  # the user's own
                content: bytes = response.read()
                return content
        except OSError as error:
            if attempt == _TRIES:
                raise DownloadFailed(
                    f"{url} cannot be downloaded: {error}; TAPEWIRE_MAVEN_URL names another Maven "
                    "repository"
                ) from error
    raise AssertionError
