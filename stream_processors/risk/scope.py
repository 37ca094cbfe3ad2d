"""The part of a message that concerns some portfolios only, such as those of a rebuild. Pure."""

from collections.abc import Callable
from typing import NamedTuple

from schemas.events import AlertAck, ReturnBatch, RiskLimits, SeriesWanted
from stream_processors.messages import Admitted, tenant_of

IsWanted = Callable[[str, str | None], bool]
"""Returns whether a portfolio is wanted, by its name and tenant."""


class Scope(NamedTuple):
    """The portfolios that a rebuild computes."""

    tenant: str | None = None
    """Their tenant; empty for those of no tenant, None for all."""
    portfolio_id: str = ""
    """The portfolio; empty for all."""

    def covers(self, portfolio_id: str, tenant: str | None) -> bool:
        """Return whether a portfolio is one of them."""
        if self.tenant not in (None, tenant or ""):
            return False
        return self.portfolio_id in ("", portfolio_id)


def narrowed(message: Admitted, is_wanted: IsWanted) -> Admitted | None:
    """Return a message without the portfolios that are not wanted; None if nothing is left."""
    record, tenant = message.record, tenant_of(message)
    match record:
        case ReturnBatch():
            portfolios = {value.portfolio_id for value in record.returns} - message.left_out
            unwanted = {name for name in portfolios if not is_wanted(name, tenant)}
            if unwanted == portfolios:
                return None
            return message._replace(left_out=message.left_out | unwanted) if unwanted else message
        case RiskLimits():
            name = record.portfolio_id
        case AlertAck():
            name = record.entity_id
        case SeriesWanted():
            name = record.series_id
        case _:
            return message
    return message if is_wanted(name, tenant) else None
