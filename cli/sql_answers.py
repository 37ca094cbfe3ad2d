"""Shows the rows of a query as a table of text."""

import json
from collections.abc import Sequence
from typing import Any

from kafka_io.log_lines import escaped

CELL_CHARS = 48
"""The most characters of a value that are shown."""


def table_lines(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return the lines of a table.

    Values of events come from strangers, so characters that could move a terminal's cursor are
    escaped.

    Args:
        names: the names of the columns.
        rows: the values of each row, as JSON has them.
    """
    texts = [[_cell(value) for value in row] for row in rows]
    heads = [_cut(escaped(name)) for name in names]
    widths = [
        max([len(head), *(len(row[number]) for row in texts)]) for number, head in enumerate(heads)
    ]
    is_number = [
        any(_is_number(row[number]) for row in rows)
        and all(row[number] is None or _is_number(row[number]) for row in rows)
        for number in range(len(heads))
    ]
    lines = [heads, ["-" * width for width in widths], *texts]
    return [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in lines
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return _cut(escaped(value))
    if isinstance(value, float):
        return f"{value:.10g}"
    return _cut(escaped(json.dumps(value, ensure_ascii=False)))


def _cut(text: str) -> str:
    return text if len(text) <= CELL_CHARS else f"{text[: CELL_CHARS - 3]}..."
