"""How books are measured: the settings of the calculations, without an environment."""

from dataclasses import dataclass

from schemas.calendars import UTC_CALENDAR, Calendar
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.methods import Simulation


@dataclass(frozen=True, slots=True)
class BookConfig:
    """The configuration that all books share."""

    window: int
    """The observations in a series' window."""
    observations_min: int
    """The fewest days that are measured."""
    levels: tuple[ConfidenceLevel, ...]
    """The confidence levels of the estimates."""
    simulation: Simulation
    simulate_every: int
    """The number of days between two simulations of a book."""
    lateness_us: int = 1 << 62
    """How far behind its series' newest return a return may be."""
    calendar: Calendar = UTC_CALENDAR
    """The calendar of trees that state none."""
    missing: str = "drop_day"
    """What a missing return counts in trees that do not say."""
