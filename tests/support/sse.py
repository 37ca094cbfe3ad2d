"""Reading text/event-stream as the HTML standard says, block by block."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Block:
    """One block as it came: also those that dispatch nothing in a browser."""

    event: str | None
    data: str | None
    id: str | None
    retry_ms: int | None
    raw: bytes

    @property
    def json(self) -> Any:
        assert self.data is not None
        return json.loads(self.data)

    @property
    def inner(self) -> Any:
        """The data inside the envelope."""
        return self.json["data"]


class Reader:
    """Fed with bytes, cut anywhere; gives whole blocks."""

    def __init__(self) -> None:
        self._rest = b""
        self.comments = 0

    def feed(self, data: bytes) -> list[Block]:
        *whole, self._rest = (self._rest + data).split(b"\n\n")
        return [self._block(raw) for raw in whole]

    @property
    def is_between_blocks(self) -> bool:
        return not self._rest

    def _block(self, raw: bytes) -> Block:
        fields: dict[str, list[str]] = {}
        for line in raw.decode().split("\n"):
            name, _, value = line.partition(":")
            if not name:
                self.comments += 1
                continue
            fields.setdefault(name, []).append(value.removeprefix(" "))
        unknown = set(fields) - {"event", "data", "id", "retry"}
        assert not unknown, f"fields that no client knows: {unknown}"
        retry = fields.get("retry")
        return Block(
            event=fields["event"][-1] if "event" in fields else None,
            data="\n".join(fields["data"]) if "data" in fields else None,
            id=fields["id"][-1] if "id" in fields else None,
            retry_ms=None if retry is None else int(retry[-1]),
            raw=raw,
        )


def named(blocks: Iterable[Block], event: str) -> list[Block]:
    """The blocks of one event."""
    return [block for block in blocks if block.event == event]
