"""The events and the states of processors, as Python values."""

from schemas.events.risk import *  # noqa: F403  # the next step lists the names
