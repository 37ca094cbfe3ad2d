"""Which classes of records are events, and the names of their tables."""

from schemas.events import Record
from schemas.registry import field_names


def is_event(kind: type[Record]) -> bool:
    """Return whether a class of records has the time of an event."""
    return hasattr(kind, "event_time_us") or "event_time_us" in field_names(kind)


def table_name(kind: type[Record]) -> str:
    """Return the name of the table of a class: `risk_alert` of `RiskAlert`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).removeprefix("_")
