"""The clients that must work unchanged, from two sources.

The clients in `tests/seeds/clients` were written for these tests; each handles the same events and
errors, in the same way, as one of the clients of the five systems. The documents of these systems
are not part of the repository. Where `TAPEWIRE_SEEDS` names a folder with them, their own clients
are cut out and run too, with nothing changed but the base URL.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

VARIABLE = "TAPEWIRE_SEEDS"
CLIENTS = Path(__file__).parent / "clients"
_BLOCK = re.compile(r"^```\w*[^\S\n]*\n(.*?)^```[^\S\n]*$", re.MULTILINE | re.DOTALL)
_BASES = ("http://localhost:8000", "http://localhost:8004")


@dataclass(frozen=True)
class Place:
    """Where a client is in the documents."""

    document: str
    """The number that the document's name begins with."""
    index: int
    """The index of the client's block of code in the document."""


PLACES: Mapping[str, Place] = {
    "mystocks/basic.js": Place("000", 0),
    "hooks/useTrainingProgress.tsx": Place("000", 1),
    "hooks/useBacktestProgress.ts": Place("000", 2),
    "mystocks/manager.js": Place("000", 3),
    "mystocks/client.py": Place("000", 4),
    "mystocks/curl.sh": Place("000", 5),
    "mystocks/train.py": Place("000", 6),
    "mystocks/backtest.py": Place("000", 7),
    "mystocks/risk.py": Place("000", 8),
    "mystocks/reconnecting.js": Place("000", 9),
    "mystocks/listeners.js": Place("000", 10),
    "hooks/useRetries.tsx": Place("000", 11),
    "response/counter.js": Place("001", 5),
    "response/structured.js": Place("001", 6),
    "response/chat.js": Place("001", 7),
    "response/client_httpx.py": Place("001", 12),
    "response/client_aiohttp.py": Place("001", 13),
    "backtests/quick.js": Place("002", 0),
    "hooks/useBacktestJobsSSE.tsx": Place("002", 1),
    "views/JobListPage.tsx": Place("002", 2),
    "hooks/useBacktestHistorySSE.tsx": Place("002", 3),
    "views/HistoryPage.tsx": Place("002", 4),
    "hooks/useBacktestProgressSSE.tsx": Place("002", 5),
    "views/JobDetailPage.tsx": Place("002", 6),
    "hooks/useBacktestDataSSE.tsx": Place("002", 7),
    "views/ChartComponent.tsx": Place("002", 8),
    "hooks/useBacktestMultiIntervalSSE.tsx": Place("002", 9),
    "views/MultiChartComponent.tsx": Place("002", 10),
    "backtests/manager.ts": Place("002", 11),
    "hooks/useSSE.tsx": Place("002", 13),
    "backtests/poll_jobs.js": Place("002", 14),
    "backtests/poll_history.js": Place("002", 16),
    "backtests/socket.js": Place("002", 18),
    "views/BacktestJobsPage.tsx": Place("002", 25),
    "training/request.sh": Place("003", 0),
    "training/page.js": Place("003", 9),
    "training/client.py": Place("003", 10),
    "training/follow.sh": Place("003", 11),
    "training/health.sh": Place("003", 16),
    "training/fallback.js": Place("003", 18),
    "agents/page.js": Place("004", 3),
    "hooks/StreamingDemo.tsx": Place("004", 8),
}
"""The clients, by their files in the repository."""


_PATTERN = "a pattern, for a stream that stands for any"
_EXAMPLE = "a server; `examples/sse-response` has it"
_CALL = "a call of a client that is run"
_FORMAT = "the format of an event"
_SETTING = "a setting of another system"

NOT_RUN: Mapping[Place, str] = {
    **{Place("000", index): "a command that installs packages" for index in (12, 13)},
    Place("000", 14): _SETTING,
    Place("000", 15): "it opens streams and does nothing with them",
    **{Place("001", index): _EXAMPLE for index in (3, 4, 8, 9, 10, 11, 14, 15, 17)},
    Place("001", 16): _SETTING,
    **{Place("002", index): _CALL for index in (12, 15, 17, 19, 20, 21, 22, 23, 24)},
    **{Place("003", index): _FORMAT for index in (1, 3, 4, 6, 7)},
    **{Place("003", index): "the same command as another one" for index in (2, 13)},
    Place("003", 12): "a program that is not in the document",
    Place("003", 14): "a picture",
    **{Place("003", index): _SETTING for index in (15, 17)},
    **{Place("004", index): _PATTERN for index in (1, 4, 5, 9, 10, 11, 12, 13, 14)},
    **{Place("004", index): "a picture" for index in (0, 6)},
    Place("004", 2): "a server, whose place the edge takes",
    Place("004", 7): _FORMAT,
}
"""The blocks of the documents that no test runs, and why."""

SERVER = (Place("001", 0), Place("001", 1), Place("001", 2))
"""The server that clients of the response dialect are run against."""
STATUS, SUCCESS = Place("003", 5), Place("003", 8)
"""The formats of a training task's events."""


class Snippets(Protocol):
    """A source of clients."""

    @property
    def name(self) -> str:
        """The source's name."""
        ...

    def text(self, file: str, base_url: str = "") -> str:
        """Return a client's text, with another base URL."""
        ...


@dataclass(frozen=True)
class OwnClients:
    """The clients in the repository."""

    name: str = "own"

    def text(self, file: str, base_url: str = "") -> str:
        return _with_base((CLIENTS / file).read_text(encoding="utf-8"), base_url)


@dataclass(frozen=True)
class Documents:
    """The documents in a folder."""

    folder: Path
    name: str = "document"

    def text(self, file: str, base_url: str = "") -> str:
        return _with_base(self.block(PLACES[file]), base_url)

    def block(self, place: Place) -> str:
        """Return a block of code."""
        return self._blocks(place.document)[place.index]

    def places(self) -> set[Place]:
        """Return the places of all blocks of code."""
        names = sorted({path.name[:3] for path in self.folder.glob("*.txt")})
        return {Place(name, index) for name in names for index in range(len(self._blocks(name)))}

    def _blocks(self, document: str) -> list[str]:
        (path,) = self.folder.glob(f"{document}_*.txt")
        return _BLOCK.findall(path.read_text(encoding="utf-8"))


def documents() -> Documents:
    """Return the documents; skip the test without them, and fail it where they are missing."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"{VARIABLE} names no folder with the documents of the five systems")
    if not list(Path(folder).glob("*.txt")):
        pytest.fail(f"{VARIABLE} is {folder}, and there are no documents (*.txt)")
    return Documents(Path(folder))


def _with_base(text: str, base_url: str) -> str:
    for base in _BASES:
        text = text.replace(base, base_url)
    return text
