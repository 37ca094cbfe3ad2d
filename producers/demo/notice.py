"""A sentence about what the demo replays, for people. Pure."""

from producers.backtesting.catalogue import PACKAGED


def describe(speed: float) -> str:
    """Return what is replayed at a speed, in trading days a second."""
    *symbols, last = sorted(PACKAGED)
    first_day = min(since for since, _ in PACKAGED.values())
    last_day = max(until for _, until in PACKAGED.values())
    return (
        f"Demo: real daily prices of {', '.join(symbols)} and {last} from {first_day} to "
        f"{last_day}, replayed at {speed:g} trading days a second; dates are those of the data, "
        "and after the last day the replay begins again."
    )
