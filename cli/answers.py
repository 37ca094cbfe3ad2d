"""The output of a command: a document for programs, and lines for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """The output of a command in both forms."""

    document: Any
    """The output with `--json`; a field is never renamed or removed, and its type never changes."""
    lines: Sequence[str]
    """The output without it."""
