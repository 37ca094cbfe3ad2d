"""Times as an operator names them: `@-1h`, or RFC 3339."""

import re
import time
from datetime import timedelta

import typer

from schemas.instants import from_rfc3339

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION_S_MAX = 36_525 * 86_400
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_AGO = re.compile(r"@-([0-9]{1,9})([smhd])")


def milliseconds_of(text: str | None, option: str) -> int | None:
    """Return a time in milliseconds since 1970 UTC; None for none.

    Args:
        text: `@-90s`, `@-30m`, `@-1h` or `@-2d` ago, or a time in RFC 3339.
        option: the option that has it, for the error.

    Raises:
        typer.BadParameter: it is neither.
    """
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    if ago is not None:
        now_ms = time.time_ns() // 1_000_000
        return max(0, now_ms - int(ago[1]) * _UNITS_S[ago[2]] * 1_000)
    try:
        return max(0, from_rfc3339(text) // 1_000)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no time; write @-1h, @-30m, @-2d, or 2026-11-30T08:00:00Z",
            param_hint=option,
        ) from error


def duration_of(text: str, option: str) -> timedelta:
    """Return a length of time.

    Args:
        text: `90s`, `30m`, `12h` or `7d`.
        option: the option that has it, for the error.

    Raises:
        typer.BadParameter: it is none.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is no length of time; write 90s, 30m, 12h or 7d", param_hint=option
        )
    seconds = int(found[1]) * _UNITS_S[found[2]]
    if seconds > _DURATION_S_MAX:
        raise typer.BadParameter(f"{text} is more than 100 years", param_hint=option)
    return timedelta(seconds=seconds)
