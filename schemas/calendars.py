"""Calendars: which date an instant has in a time zone whose days end at a given hour.

A calendar is written as a time zone of the IANA database and, unless days end at midnight, the time
at which they do: `UTC`, `America/New_York`, `America/New_York 17:00`. With that cut, the date of a
day begins at 17:00 of the day before, as in the foreign exchange market.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.instants import EARLIEST_US, LATEST_US

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DATE = _EPOCH.date()
_DAY_US = 86_400_000_000
_MINUTE_US = 60_000_000
_CUT = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_CACHED = 64


class InvalidCalendar(ValueError):
    """A text is no calendar; the message says what would be one."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """A time zone, and the time of its clocks at which days end."""

    name: str
    """The text that it was parsed from."""
    zone: ZoneInfo | None
    """None for UTC, whose days need no look at the database."""
    cut_us: int = 0
    """The end of a day as the time since midnight; 0 for midnight itself."""
    _shift_us: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shift_us", _DAY_US - self.cut_us if self.cut_us else 0)

    def day_of(self, instant_us: int) -> int:
        """Return the date of an instant, as the number of days since 1970-01-01."""
        if self.zone is not None and EARLIEST_US + _DAY_US <= instant_us < LATEST_US - _DAY_US:
            utc = _EPOCH + timedelta(microseconds=instant_us)
            offset = utc.astimezone(self.zone).utcoffset()
            assert offset is not None  # an aware datetime has one
            instant_us += offset // timedelta(microseconds=1)
        return (instant_us + self._shift_us) // _DAY_US


UTC_CALENDAR = Calendar("UTC", None)


@lru_cache(maxsize=_CACHED)
def parse_calendar(text: str) -> Calendar:
    """Parse a calendar such as `America/New_York 17:00`.

    Raises:
        InvalidCalendar: the text names no time zone, or no time of day after it.
    """
    zone_name, _, cut = text.partition(" ")
    minutes = 0
    if cut:
        matched = _CUT.fullmatch(cut)
        if matched is None:
            raise InvalidCalendar(
                f"the calendar {text[:80]!r} has the cut {cut[:20]!r}; write the time at which "
                "days end, as in 'America/New_York 17:00'"
            )
        minutes = 60 * int(matched[1]) + int(matched[2])
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidCalendar(
            f"the calendar {text[:80]!r} names no time zone of the IANA database; there are UTC, "
            "Europe/London, America/New_York and so on"
        ) from error
    return Calendar(text, None if zone_name == "UTC" else zone, minutes * _MINUTE_US)


def date_text(day: int) -> str:
    """Return a number of days since 1970-01-01 as a date: `2008-10-10`."""
    # The first and last days that a time zone could move out of the years that dates have.
    ordinal = _EPOCH_DATE.toordinal() + day
    return date.fromordinal(min(max(ordinal, 1), date.max.toordinal())).isoformat()
