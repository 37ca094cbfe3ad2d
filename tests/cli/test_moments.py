import time

import pytest
import typer

from cli.moments import milliseconds_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("@-90s", 90), ("@-30m", 1_800), ("@-1h", 3_600), ("@-2d", 172_800)]
)
def test_a_time_ago_counts_from_now(text: str, seconds: int) -> None:
    found = milliseconds_of(text, "--from")
    assert found is not None
    assert abs(time.time() * 1_000 - seconds * 1_000 - found) < 5_000


def test_a_time_has_a_zone_and_none_is_none() -> None:
    assert milliseconds_of("2026-11-30T08:00:00Z", "--from") == 1_796_025_600_000
    assert milliseconds_of(None, "--from") is None
    for text in ("2026-11-30T08:00:00", "@1h", "yesterday"):
        with pytest.raises(typer.BadParameter, match="is no time; write @-1h"):
            milliseconds_of(text, "--from")
