"""Divides an event that is too large for one block into several of the same name, or shortens it.

Each block has all members of the event, of each list a slice, and `part` and `parts` beside them.
Only the last one gets an id: a client whose connection breaks between two gets all of them again.
"""

from collections.abc import Mapping, Sequence

from sse_edge.frame import body
from sse_edge.streams.dialect import Dialect, Rendered

PARTS_MAX = 16
"""The most blocks of one event; together they have 1 MiB."""
_OWN = ("part", "parts")
"""The members of a part; an event that has such members itself is not divided."""
_TEXT_CHARS = 1_000
"""How much is left of a text that is too large."""


def in_parts(dialect: Dialect, rendered: Rendered, timestamp: str) -> bytes | None:
    """Return the blocks of an event, the last one without its id and end.

    Args:
        dialect: wraps the event.
        rendered: an event that is too large for one block.
        timestamp: its time in the log.

    Returns:
        None if the event has no lists, or is too large nonetheless.
    """
    lists = _lists_of(rendered.data)
    for parts in range(2, min(PARTS_MAX, max(map(len, lists.values()), default=0)) + 1):
        blocks: list[bytes] = []
        for part in range(parts):
            block = _part(dialect, rendered, timestamp, lists, part, parts)
            if block is None or len(block) > dialect.frame_bytes_max:
                break
            blocks.append(block)
        if len(blocks) == parts:
            return b"\n".join(blocks)
    return None


def without_the_largest(dialect: Dialect, rendered: Rendered, timestamp: str) -> bytes | None:
    """Return the block of an event without its largest values, and without its id and end.

    As many values as necessary are null, or the beginning of a text; `left_out` has their names.
    Where the beginnings of texts do not fit either, these texts are null, too.

    Args:
        dialect: wraps the event.
        rendered: an event that is too large for one block, and cannot be divided.
        timestamp: its time in the log.

    Returns:
        None if the event's data has no members, or the names of these alone are too large.
    """
    if not isinstance(rendered.data, Mapping):
        return None
    for text_chars in (_TEXT_CHARS, 0):
        block = _without_the_largest(dialect, rendered, timestamp, text_chars)
        if block is not None:
            return block
    return None


def _without_the_largest(
    dialect: Dialect, rendered: Rendered, timestamp: str, text_chars: int
) -> bytes | None:
    """Shorten an event's data, with so many characters of a text that is too large."""
    data, left_out = dict(rendered.data), list[str]()
    sizes = {name: _size(value) for name, value in data.items()}
    # The block is rendered only if it may fit: data may have many members.
    size = len(body(*dialect.wrap(rendered, timestamp))) + _size("left_out") + _size([])
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        value = data[name]
        data[name] = _beginning(value, text_chars)
        if data[name] is value:
            continue
        left_out.append(name)
        size += _size(data[name]) - sizes[name] + _size(name) + 1
        if size > dialect.frame_bytes_max:
            continue
        shorter = rendered._replace(data={**data, "left_out": left_out})
        block = body(*dialect.wrap(shorter, timestamp))
        if len(block) <= dialect.frame_bytes_max:
            return block
    return None


def _beginning(value: object, text_chars: int) -> str | None:
    """Return a text, shortened if it is long; None for another value, or if nothing is kept."""
    if not (isinstance(value, str) and text_chars):
        return None
    return value if len(value) <= text_chars else f"{value[:text_chars]}\u2026"


def _size(value: object) -> int:
    """Return the size of a value as JSON."""
    return len(body(None, value)) - len(b"data: \n")


def _lists_of(data: object) -> Mapping[str, Sequence[object]]:
    if not isinstance(data, Mapping):
        return {}
    return {name: value for name, value in data.items() if isinstance(value, list | tuple)}


def _part(
    dialect: Dialect,
    rendered: Rendered,
    timestamp: str,
    lists: Mapping[str, Sequence[object]],
    part: int,
    parts: int,
) -> bytes | None:
    slices = {
        name: value[part * len(value) // parts : (part + 1) * len(value) // parts]
        for name, value in lists.items()
    }
    wrapped = dialect.wrap(rendered._replace(data={**rendered.data, **slices}), timestamp)
    if not isinstance(wrapped.data, Mapping) or not wrapped.data.keys().isdisjoint(_OWN):
        return None
    return body(wrapped.event, {**wrapped.data, "part": part + 1, "parts": parts})
