"""Searches what a session of tests has logged for tokens and secrets.

A session searches all log files of the processes that it has started, which are below its folder,
and what this system's own loggers have written in the tests' processes. Tokens are known by their
form; the secrets of tests are listed here.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

SECRETS = ("the secret of a test", "another secret of a test", "s3cr3t")
"""The beginnings of secrets that tests give to servers."""

_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]{12,}\.[\w-]{12,}")
_SEGMENT = re.compile(r"\d{20}\.")
"""The files in which a broker keeps records, which are called logs as well."""
_OWN = re.compile(r"^\w+ +(cli|infra|kafka_io|producers|schemas|sse_edge|stream_processors)[.:]")
_SHOWN_CHARS = 60


def leaks_in(text: str) -> Iterator[str]:
    """Yield what a text shows of tokens and secrets, with some characters before it."""
    places = [(found.start(), found.start() + 12) for found in _TOKEN.finditer(text)]
    places += [(at, at + len(secret)) for secret in SECRETS for at in _all_places(text, secret)]
    for start, end in places:
        yield text[max(0, start - _SHOWN_CHARS) : end]


def leaks_in_files(folder: Path) -> Iterator[str]:
    """Yield what the log files below a folder show of tokens and secrets."""
    for path in sorted(folder.rglob("*.log*")):
        if path.is_file() and not _SEGMENT.match(path.name):
            for leak in leaks_in(path.read_text(encoding="utf-8", errors="replace")):
                yield f"{path}: {leak}"


def leaks_in_captured(sections: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield what this system has logged in a test, by the sections of the test's report.

    Lines of clients such as httpx are the test's own: they show the addresses that it asks.
    """
    for title, text in sections:
        if "log" in title:
            own = "\n".join(line for line in text.splitlines() if _OWN.match(line))
            for leak in leaks_in(own):
                yield f"{title}: {leak}"


def _all_places(text: str, wanted: str) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)
