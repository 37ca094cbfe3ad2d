"""Calendars: dates in a time zone whose days end at an hour, and texts that name none."""

from datetime import datetime

import pytest

from schemas.calendars import (
    UTC_CALENDAR,
    InvalidCalendar,
    date_text,
    parse_calendar,
)
from schemas.instants import EARLIEST_US, LATEST_US, from_datetime


def date_of(calendar: str, instant: str) -> str:
    instant_us = from_datetime(datetime.fromisoformat(instant))
    return date_text(parse_calendar(calendar).day_of(instant_us))


@pytest.mark.parametrize(
    ("calendar", "instant", "date"),
    [
        ("UTC", "2008-10-10T00:00:00Z", "2008-10-10"),
        ("UTC", "2008-10-09T23:59:59.999999Z", "2008-10-09"),
        ("UTC", "1969-12-31T23:00:00Z", "1969-12-31"),
        ("America/New_York", "2008-10-10T03:59:00Z", "2008-10-09"),  # summer time
        ("America/New_York", "2008-12-10T04:59:00Z", "2008-12-09"),
        ("Asia/Tokyo", "2008-10-09T15:00:00Z", "2008-10-10"),
        ("America/New_York 17:00", "2008-10-09T20:59:00Z", "2008-10-09"),
        ("America/New_York 17:00", "2008-10-09T21:00:00Z", "2008-10-10"),
    ],
)
def test_an_instant_has_the_date_of_its_time_zone_and_cut(
    calendar: str, instant: str, date: str
) -> None:
    assert date_of(calendar, instant) == date


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Mars/Olympus", "names no time zone"),
        ("", "names no time zone"),
        ("../etc/passwd", "names no time zone"),
        ("UTC 24:00", "the cut '24:00'"),
        ("UTC noon", "the cut 'noon'"),
    ],
)
def test_a_text_that_is_no_calendar_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(InvalidCalendar, match=reason):
        parse_calendar(text)


def test_utc_is_the_same_calendar_however_it_is_got_and_every_instant_has_a_date() -> None:
    assert parse_calendar("UTC") == UTC_CALENDAR
    for instant_us in (EARLIEST_US, LATEST_US):
        for name in ("UTC 23:59", "Asia/Tokyo", "America/New_York"):
            assert len(date_text(parse_calendar(name).day_of(instant_us))) == 10
