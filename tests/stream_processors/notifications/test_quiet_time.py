"""Quiet hours, also past midnight and on days on which clocks are moved."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from schemas.events import QuietHours
from stream_processors.notifications.quiet_time import end_of_quiet_us
from tests.stream_processors.notifications.conftest import AT_US


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


NIGHT = QuietHours(22 * 60, 7 * 60, "Europe/Berlin")


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2025-11-24T20:59:59+00:00", None),
        ("2025-11-24T21:00:00+00:00", "2025-11-25T07:00:00+01:00"),
        ("2025-11-25T05:59:59+00:00", "2025-11-25T07:00:00+01:00"),
        ("2025-11-25T06:00:00+00:00", None),
        # Clocks are moved back in the night before 2025-10-26, and ahead before 2025-03-30.
        ("2025-10-25T22:00:00+02:00", "2025-10-26T07:00:00+01:00"),
        ("2025-03-29T23:00:00+01:00", "2025-03-30T07:00:00+02:00"),
    ],
)
def test_a_night_ends_by_the_clocks_of_its_time_zone(at: str, end: str | None) -> None:
    assert end_of_quiet_us(NIGHT, us(at)) == us(end or at)


def test_hours_of_one_day() -> None:
    lunch = QuietHours(12 * 60, 13 * 60 + 30, "UTC")
    assert end_of_quiet_us(lunch, us("2025-11-24T12:10:00Z")) == us("2025-11-24T13:30:00Z")
    assert end_of_quiet_us(lunch, us("2025-11-24T13:30:00Z")) == us("2025-11-24T13:30:00Z")


@pytest.mark.parametrize("quiet", [None, QuietHours(60, 60, "UTC"), QuietHours(0, 60, "No/Where")])
def test_without_hours_that_can_be_kept_nothing_waits(quiet: QuietHours | None) -> None:
    assert end_of_quiet_us(quiet, us("2025-11-24T00:30:00Z")) == us("2025-11-24T00:30:00Z")


@given(
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    st.integers(us("2025-01-01T00:00:00Z"), us("2026-01-01T00:00:00Z")),
)
def test_whatever_waits_waits_until_the_end_of_its_hours_and_not_a_day(
    start: int, end: int, zone: str, at_us: int
) -> None:
    found_us = end_of_quiet_us(QuietHours(start, end, zone), at_us)
    assert at_us <= found_us <= at_us + 25 * 3_600 * 1_000_000
    if found_us > at_us + 1:
        local = datetime.fromtimestamp(found_us / 1e6, UTC).astimezone(ZoneInfo(zone))
        gap = local.utcoffset() != local.replace(hour=12).utcoffset()
        assert gap or local.hour * 60 + local.minute == end


@pytest.mark.parametrize("zone", ["Europe", "Nowhere/City", "../etc", "x" * 256, ""])
def test_what_is_no_time_zone_has_no_quiet_hours(zone: str) -> None:
    assert end_of_quiet_us(QuietHours(0, 24 * 60 - 1, zone), AT_US) == AT_US
