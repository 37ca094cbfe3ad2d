"""The newest measure of every portfolio, and its last year, day by day.

The stream of measures says what changes; these two say what holds before a client follows it.
"""

import logging
from array import array
from math import isnan, nan
from typing import Annotated

from fastapi import APIRouter, Query, Request

from schemas.events import RiskHistory
from schemas.instants import EARLIEST_US, LATEST_US, to_date, to_rfc3339
from sse_edge.http.dependencies import dated_rows_of, rows_of
from sse_edge.routes.views import ViewsDep
from sse_edge.streams.dialects.mystocks import risk_measure

logger = logging.getLogger(__name__)

_NUMBER_BYTES = 8

router = APIRouter(prefix="/api/v1/measures", tags=["risk"])

PortfolioId = Annotated[
    str | None, Query(max_length=256, description="Only this portfolio; all without it.")
]


@router.get("", summary="Get the newest measure of each portfolio")
async def newest(
    request: Request, views: ViewsDep, portfolio_id: PortfolioId = None
) -> list[dict[str, object]]:
    """Measures are listed by portfolio, with the fields of the event `risk_measure`.

    `as_of` is the time of the newest return, `changed_at` that of the measure's record.
    """
    found = [
        {**risk_measure(measure).data, "changed_at": to_rfc3339(at_ms * 1000)}
        for measure, at_ms in await dated_rows_of(request, views.measures)
        if portfolio_id in (None, measure.portfolio_id)
    ]
    return sorted(found, key=lambda measure: str(measure["portfolio_id"]))


@router.get("/history", summary="Get the returns of a year, with the VaR forecast before each")
async def history(
    request: Request, views: ViewsDep, portfolio_id: PortfolioId = None
) -> list[dict[str, object]]:
    """Portfolios are listed by name, each with its last 250 days as columns of equal length.

    A day's `var_95` is the historical VaR that was published before its return arrived; null where
    there was none. A day is an `exception` if its loss exceeded that VaR. While returns stream in,
    a history is up to ten seconds behind the measure.
    """
    found = []
    for event in await rows_of(request, views.histories):
        if portfolio_id in (None, event.portfolio_id):
            try:
                found.append(history_of(event))
            except ValueError as error:
                logger.warning("skipping the history of %s: %s", event.portfolio_id, error)
    return sorted(found, key=lambda entry: str(entry["portfolio_id"]))


def history_of(event: RiskHistory) -> dict[str, object]:
    """Return the days of a portfolio's window, with their forecasts.

    Raises:
        ValueError: the columns do not fit each other, as in a row that others have written.
    """
    middle = event.observations * _NUMBER_BYTES
    if len(event.window) != 2 * middle or len(event.var_95) not in (0, middle):
        raise ValueError(
            f"{len(event.window)} bytes of returns and {len(event.var_95)} of forecasts are not "
            f"those of {event.observations} days"
        )
    times, values = array("q", event.window[:middle]), array("d", event.window[middle:])
    if any(not EARLIEST_US <= at_us < LATEST_US for at_us in times):
        raise ValueError("a day is in no calendar")
    forecasts = array("d", event.var_95) or array("d", [nan]) * len(times)
    var = [None if isnan(value) else value for value in forecasts]
    return {
        "portfolio_id": event.portfolio_id,
        "days": [to_date(at_us) for at_us in times],
        "returns": values.tolist(),
        "var_95": var,
        "exceptions": [
            to_date(at_us)
            for at_us, value, forecast in zip(times, values, var, strict=True)
            if forecast is not None and -value > forecast
        ],
    }
