"""`tapewire upgrade --check`: compares the log with this software, and says what would change."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.log_survey import WrittenVersion, as_json as version_as_json
from cli.status import Status
from kafka_io.log_lines import escaped


@dataclass(frozen=True, slots=True)
class UpgradeCheck:
    """The differences between a log and this software."""

    software: str
    """The version of this software."""
    unknown: Sequence[WrittenVersion] = ()
    """Schemas that this software does not know: the log is of a newer version."""
    upgraded: Sequence[WrittenVersion] = ()
    """Versions of schemas that this software reads, and writes a newer version of."""
    missing: Sequence[str] = ()
    """Topics that would be created."""
    differences: Mapping[str, Sequence[str]] | None = None
    """How topics differ from what this software needs, by topic."""
    others: Sequence[str] = ()
    """Edges and workers of other versions."""

    @property
    def is_possible(self) -> bool:
        """Whether this software reads all that a sample of the log holds."""
        return not self.unknown

    @property
    def is_needed(self) -> bool:
        """Whether anything would change."""
        return bool(self.upgraded or self.missing or self.differences or self.others)


def check(status: Status, topics: Sequence[Mapping[str, Any]]) -> UpgradeCheck:
    """Compare a system with this software. Pure.

    Args:
        status: the system.
        topics: the topics, as `cli.topics.list_topics` returns them.
    """
    return UpgradeCheck(
        status.software,
        [found for found in status.writes if found.version is None],
        [found for found in status.writes if found.version is not None and not found.is_current],
        [row["topic"] for row in topics if not row["exists"]],
        {row["topic"]: row["differences"] for row in topics if row["differences"]},
        status.old_software,
    )


def as_json(found: UpgradeCheck) -> dict[str, Any]:
    """Return a check for a program."""
    return {
        "software": found.software,
        "possible": found.is_possible,
        "needed": found.is_needed,
        "unknown_schemas": [version_as_json(written) for written in found.unknown],
        "upgraded_schemas": [version_as_json(written) for written in found.upgraded],
        "missing_topics": list(found.missing),
        "different_topics": dict(found.differences or {}),
        "other_software": list(found.others),
    }


def lines_of(found: UpgradeCheck) -> Iterator[str]:
    """Return the lines of a check for people."""
    return map(escaped, _lines(found))


def _lines(found: UpgradeCheck) -> Iterator[str]:
    software = found.software or "this software"
    for written in found.unknown:
        yield (
            f"newer      {written.source} writes a schema of {written.record} to {written.topic} "
            f"that {software} does not know: install the version that writes it, or a later one"
        )
    for written in found.upgraded:
        yield (
            f"schema     {written.record}: version {written.version} in {written.topic} is read; "
            f"{software} writes version {written.newest}, which earlier versions skip"
        )
    for name in found.missing:
        yield f"topic      {name} is created by `tapewire up` or `tapewire topics create`"
    for name, texts in (found.differences or {}).items():
        for text in texts:
            yield f"topic      {name} {text}"
    for text in found.others:
        yield f"software   {text}"
    if not found.is_possible:
        yield f"the log is of a newer version than {software}: nothing may be started by it"
    elif not found.is_needed:
        yield f"nothing would change: the log and all parts are of {software}"
    else:
        yield (
            "upgrade in this order: back up, create topics, edges one after the other, processors, "
            "workers and producers; see the guide on upgrades"
        )
