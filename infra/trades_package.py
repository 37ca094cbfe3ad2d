"""The package with real trades, downloaded once from Maven Central to the user's cache.

A package whose SHA-256 is not the locked one is not used.
"""

import hashlib
from pathlib import Path

from jgo.maven import MavenContext

from infra.errors import DownloadFailed

_PACKAGE = ("org.ta4j", "ta4j-examples", "0.18")
_SHA256 = "45232396b3231d46a833605ed1934cad522e4264cfb2e400b1fbb3a4a118da91"


def trades_jar() -> Path:
    """Return the package of 0.9 MB, and download it at first use.

    Raises:
        DownloadFailed: it cannot be downloaded, or differs from the locked one.
    """
    group, name, version = _PACKAGE
    try:
        jar: Path = MavenContext().project(group, name).at_version(version).artifact().resolve()
        found = hashlib.sha256(jar.read_bytes()).hexdigest()
    except Exception as error:  # its resolver raises what its HTTP client and parser raise
        raise DownloadFailed(
            f"{name} could not be fetched from Maven Central: {error!r}"
        ) from error
    if found != _SHA256:
        raise DownloadFailed(f"{jar} is not the locked package: its SHA-256 is {found}; remove it")
    return jar
