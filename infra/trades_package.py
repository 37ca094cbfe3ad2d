"""The package with real trades, downloaded once from a Maven repository."""

from collections.abc import Mapping
from pathlib import Path

from infra.maven import fetch

TRADES: Mapping[str, str] = {
    "org/ta4j/ta4j-examples/0.18/ta4j-examples-0.18.jar": (
        "45232396b3231d46a833605ed1934cad522e4264cfb2e400b1fbb3a4a118da91"
    )
}
"""The path of the package in a Maven repository, with its SHA-256."""


def trades_jar(maven_url: str | None) -> Path:
    """Return the package of 0.9 MB, and download it at first use.

    Args:
        maven_url: the Maven repository; None for Maven Central.

    Raises:
        DownloadFailed: it cannot be downloaded, or differs from the locked one.
    """
    (jar,) = fetch(TRADES, maven_url)
    return jar
