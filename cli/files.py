"""Reads the files that commands take; whatever a file is, the command ends with a sentence.

A file is read up to a largest size, and a pipe without a writer is waited for only for a while.
JSON must follow RFC 8259. Python's parser alone would also accept `NaN`, and fail at deep nesting.
"""

import json
import math
import os
import select
import stat
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from cli.errors import InvalidArgument

STDIN = "-"
"""The name of a file that stands for the standard input."""
BYTES_MAX = 1 << 20
"""The largest body that an edge takes."""
SILENCE_S = 30.0
"""How long a pipe may say nothing."""

_PIECE_BYTES = 1 << 16


def read_object(name: str, what: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        name: the path of the file, or `STDIN`.
        what: what the file holds, for messages, such as `the book`.

    Raises:
        InvalidArgument: the file cannot be read, or is no such JSON; the message says why.
    """
    return parse_object(_read(name), what)


def parse_object(data: bytes | str, what: str) -> dict[str, Any]:
    """Return the JSON object of a text.

    Raises:
        InvalidArgument: the text is no such JSON; the message says why.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        found = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"{what} is no UTF-8 text: byte {error.start + 1} belongs to no character"
        ) from None
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} has half a character, such as \\ud800") from None
    except RecursionError:
        raise InvalidArgument(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise InvalidArgument(f"{what} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidArgument(f"{what} is no JSON object, as in {{...}}")
    return found


def _read(name: str) -> bytes:
    """Return the bytes of a file.

    Raises:
        InvalidArgument: the file cannot be read, is too large, or is a silent pipe.
    """
    try:
        if name == STDIN:
            return _bounded(sys.stdin.buffer.read(BYTES_MAX + 1), "the standard input")
        descriptor = os.open(name, _flags_for(name))
        try:
            return _read_all(descriptor, name)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # a name with a null byte
        reason = error.strerror if isinstance(error, OSError) else None
        raise InvalidArgument(f"{name} cannot be read: {reason or error}") from None


def _flags_for(name: str) -> int:
    """Return how a file is opened.

    Raises:
        InvalidArgument: it is a folder or a device.
    """
    if not name:
        raise InvalidArgument("the name of the file is empty; it cannot be read")
    mode = Path(name).stat().st_mode
    if stat.S_ISDIR(mode):
        raise InvalidArgument(f"{name} is a folder; name a file")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise InvalidArgument(f"{name} is no file; name a file or a pipe")
    return os.O_RDONLY | os.O_NONBLOCK  # else a pipe that nobody has opened would block


def _read_all(descriptor: int, name: str) -> bytes:
    is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    found = b""
    while True:
        if is_pipe:
            _await_piece(descriptor, name)
        piece = os.read(descriptor, _PIECE_BYTES)
        if not piece:
            return found
        found = _bounded(found + piece, name)


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > BYTES_MAX:
        raise InvalidArgument(
            f"{name} has more than {BYTES_MAX:,} bytes, the most that an edge takes"
        )
    return data


def _await_piece(descriptor: int, name: str) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    until_s = time.monotonic() + SILENCE_S
    while not poll.poll(max(0.0, until_s - time.monotonic()) * 1000):
        if time.monotonic() >= until_s:
            raise InvalidArgument(f"nobody has written to {name} for {SILENCE_S:g} s")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large for a number")
    return number
