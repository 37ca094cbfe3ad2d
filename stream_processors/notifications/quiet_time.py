"""The quiet hours of a route. Pure."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.events import QuietHours
from schemas.instants import from_datetime


def end_of_quiet_us(quiet: QuietHours | None, at_us: int) -> int:
    """Return when the quiet hours end that a time is in; the time itself outside of them.

    The hours are those of the clocks in their time zone, also on a day on which these are moved.

    Args:
        quiet: the hours; None where there are none.
        at_us: microseconds since 1970 UTC.
    """
    if quiet is None or quiet.start_minute == quiet.end_minute:
        return at_us
    try:
        zone = ZoneInfo(quiet.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return at_us  # a foreign route; a message too many is better than none
    local = datetime.fromtimestamp(at_us / 1e6, zone)
    minute = local.hour * 60 + local.minute
    is_past_midnight = quiet.start_minute > quiet.end_minute
    if is_past_midnight:
        is_quiet = minute >= quiet.start_minute or minute < quiet.end_minute
    else:
        is_quiet = quiet.start_minute <= minute < quiet.end_minute
    if not is_quiet:
        return at_us
    day = local.date()
    if is_past_midnight and minute >= quiet.start_minute:
        day += timedelta(days=1)
    hour, minute = divmod(quiet.end_minute, 60)
    end = datetime(day.year, day.month, day.day, hour % 24, minute, tzinfo=zone)
    return max(from_datetime(end.astimezone(UTC)), at_us + 1)
