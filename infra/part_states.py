"""The states of a system's parts, in a file for its edges.

The supervisor writes the file at each change; edges that know its path show it in `/health/ready`.
It names states, times and how a part has failed, and nothing of its log: that may quote what is
nobody else's business.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

logger = logging.getLogger(__name__)


class PartState(StrEnum):
    """The state of a part."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    """It has died, and is restarted after a pause."""
    WAITING = "waiting"
    """It is started when what it needs answers again."""


class PartStates:
    """The states of parts, written to a file at each change."""

    def __init__(self, path: Path | None) -> None:
        """Begin without parts.

        Args:
            path: the file; None writes none.
        """
        self._path = path
        self._parts: dict[str, dict[str, str]] = {}
        self.restarts: Counter[str] = Counter()
        """How often each part was started again."""

    @property
    def present(self) -> Mapping[str, PartState]:
        """The state of each part; any thread may ask."""
        return {name: PartState(part["state"]) for name, part in list(self._parts.items())}

    def set(self, name: str, state: PartState, failure: str = "") -> None:
        """Note a part's state, and since when it has it.

        Args:
            name: the part.
            state: its state.
            failure: how it has failed, such as `died with SIGKILL`; what follows a colon is left
                out, since it may quote a path or a record.
        """
        if self._parts.get(name, {}).get("state") == state:
            return
        self.restarts[name] += state is PartState.STARTING and name in self._parts
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._parts[name] = {"state": state, "since": now}
        if failure:
            self._parts[name]["failure"] = failure.partition(":")[0]
        self._write()

    def names(self, *states: PartState) -> list[str]:
        """Return the parts that are in one of some states."""
        return [name for name, part in self._parts.items() if part["state"] in states]

    def close(self) -> None:
        """Remove the file: nothing runs any more."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._path is None:
            return
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(json.dumps(self._parts, indent=2) + "\n", encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:  # a full disk stops no part
            logger.warning("the states of parts cannot be written: %s", error)
