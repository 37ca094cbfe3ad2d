"""Every method that is configured, on one window: closed forms at each return, others less often.

Over more than one period: what has a zero mean grows by the root of the horizon; everything else
looks at overlapping returns. VaR and ES are never annualised.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np

from schemas.events import RiskEstimate
from stream_processors.risk.confidence import InvalidInput, Level
from stream_processors.risk.measures import ReturnWindow
from stream_processors.risk.methods import (
    Floats,
    age_weighted,
    filtered_scenarios,
    historical,
    overlapping,
    student_t_fitted,
)
from stream_processors.risk.moments import (
    CornishFisher,
    Estimate,
    Moments,
    Normal,
    RunningMoments,
    StudentT,
    bent,
    is_monotone,
)

CLOSED = ("normal", "student_t", "cornish_fisher", "ewma")
"""One period ahead these cost the same however long the window is."""
METHODS = ("historical", *CLOSED, "fhs", "age_weighted", "student_t_fitted")

_SCENARIOS = frozenset({"historical", "fhs", "age_weighted"})
"""Their VaR is an observed loss: so there must be some beyond the level."""
_SCALED = "ewma"

Pair = tuple[float, float]
"""VaR and ES."""

Forms = Callable[[Moments, float], list[Pair]]
"""From a window's moments and its deviation by EWMA, the answers at each level."""


class Closed(NamedTuple):
    """What the closed forms say, one period ahead."""

    answers: Sequence[list[Pair]]
    """Of each method that has a closed form, in order, at each level."""
    moments: Moments


@dataclass(frozen=True)
class Methods:
    """Which methods, at which levels, over how many periods."""

    names: tuple[str, ...] = ("historical",)
    levels: tuple[Level, ...] = ()
    horizons: tuple[int, ...] = (1,)
    dof: float = 6.0
    """Degrees of freedom of `student_t`."""
    slower_every: int = 20
    """How many returns of a portfolio lie between two looks at its whole window."""

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in METHODS:
                raise InvalidInput(f"{name!r} is no method; there are {', '.join(METHODS)}")
        for horizon in self.horizons:
            if horizon < 1:
                raise InvalidInput(f"the horizon is {horizon}; it must be 1 period or more")
        if self.slower_every < 1:
            raise InvalidInput(f"slower_every is {self.slower_every}; it must be 1 or more")
        if "student_t" in self.names:
            StudentT(Level.of("0.95"), self.dof)

    @property
    def has_closed(self) -> bool:
        """Whether there is anything to say at each return, beside the historical method."""
        return bool(self._forms)

    def closed(self, window: ReturnWindow) -> Closed | None:
        """The closed forms of a window that keeps moments, one period ahead.

        None where the returns are so large that there is no number to say.
        """
        assert window.moments is not None
        try:
            moments = window.moments.moments()
        except OverflowError:
            return None
        spread = sqrt(window.variance.variance(len(window)))
        return Closed([forms(moments, spread) for _, forms in self._forms], moments)

    def named(
        self, closed: Closed | None, as_of_us: int, *, missing: str
    ) -> Iterator[RiskEstimate]:
        """Closed forms as they are published, with the horizons that are a matter of scale.

        Args:
            closed: what they say, if they say anything.
            as_of_us: of which instant.
            missing: their status where they say nothing.
        """
        if closed is None:
            for name, _ in self._forms:
                for level in self.levels:
                    yield _published(name, level, 1, None, as_of_us, status=missing)
            return
        fits = is_monotone(closed.moments)
        for (name, _), pairs in zip(self._forms, closed.answers, strict=True):
            domain_ok = fits or name != "cornish_fisher"
            for level, (var, es) in zip(self.levels, pairs, strict=True):
                for horizon in self.horizons if name == _SCALED else (1,):
                    root = sqrt(horizon)
                    scaled = Estimate(var * root, es * root)
                    yield _published(name, level, horizon, scaled, as_of_us, domain_ok=domain_ok)

    def slower(self, window: ReturnWindow, observations_min: int) -> Sequence[RiskEstimate]:
        """What takes a look at the whole window."""
        if not self._slower:
            return []
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number is not said
            return self._all_slower(window, observations_min)

    def _all_slower(self, window: ReturnWindow, observations_min: int) -> Sequence[RiskEstimate]:
        returns = np.array(window.values)
        as_of_us = window.newest_us
        found: list[RiskEstimate] = []
        for name, horizon in self._slower:
            if len(returns) < max(horizon, observations_min):
                found += [_published(name, one, horizon, None, as_of_us) for one in self.levels]
                continue
            ahead = overlapping(returns, horizon)
            moments = _moments(ahead) if name in CLOSED else None
            found += [
                self._looked(name, level, horizon, ahead, moments, as_of_us)
                for level in self.levels
            ]
        return found

    @cached_property
    def _forms(self) -> Sequence[tuple[str, Forms]]:
        return [
            (name, _forms(name, self.levels, self.dof))
            for name in self.names
            if name in CLOSED and (1 in self.horizons or name == _SCALED)
        ]

    @cached_property
    def _slower(self) -> Sequence[tuple[str, int]]:
        return [
            (name, horizon)
            for name in self.names
            for horizon in self.horizons
            if name != _SCALED and (horizon > 1 or name not in ("historical", *CLOSED))
        ]

    def _looked(
        self,
        name: str,
        level: Level,
        horizon: int,
        ahead: Floats,
        moments: Moments | None,
        as_of_us: int,
    ) -> RiskEstimate:
        if name in CLOSED:
            if moments is None:
                return _published(name, level, horizon, None, as_of_us, status="unavailable")
            (pair,) = _forms(name, (level,), self.dof)(moments, 0.0)
            estimate = Estimate(*pair)
            fits = name != "cornish_fisher" or is_monotone(moments)
            return _published(name, level, horizon, estimate, as_of_us, domain_ok=fits)
        scenarios = filtered_scenarios(ahead) if name == "fhs" else ahead
        if name in _SCENARIOS and len(scenarios) < level.observations_min:
            return _published(name, level, horizon, None, as_of_us)
        return _published(name, level, horizon, _WHOLE[name](scenarios, level), as_of_us)


_WHOLE: dict[str, Callable[[Floats, Level], Estimate]] = {
    "historical": historical,
    "fhs": historical,
    "age_weighted": age_weighted,
    "student_t_fitted": student_t_fitted,
}


def _moments(returns: Floats) -> Moments | None:
    """None where the returns are so large that there is no number to say."""
    try:
        return RunningMoments(map(float, returns)).moments()
    except OverflowError:
        return None


def _forms(name: str, levels: Sequence[Level], dof: float) -> Forms:
    if name == "cornish_fisher":
        curves = [CornishFisher(level) for level in levels]
        return lambda moments, _: bent(curves, moments)
    if name == "student_t":
        factors = [StudentT(level, dof).factors for level in levels]
    else:
        factors = [Normal(level).factors for level in levels]
    if name == "ewma":
        return lambda _, spread: [(at * spread, beyond * spread) for at, beyond in factors]

    def about_the_mean(moments: Moments, _: float) -> list[Pair]:
        mean, deviation = moments.mean, moments.deviation
        return [(at * deviation - mean, beyond * deviation - mean) for at, beyond in factors]

    return about_the_mean


def _published(
    name: str,
    level: Level,
    horizon: int,
    estimate: Estimate | None,
    as_of_us: int,
    *,
    domain_ok: bool = True,
    status: str = "insufficient_data",
) -> RiskEstimate:
    """An estimate as an event has it; one that is no finite number is not available."""
    if estimate is not None:
        status = "ok" if isfinite(estimate.var) and isfinite(estimate.es) else "unavailable"
    known = estimate if status == "ok" else None
    return RiskEstimate(
        method=name,
        confidence=float(level.confidence),
        horizon=horizon,
        status=status,
        var=None if known is None else known.var,
        es=None if known is None else known.es,
        scaled=horizon > 1 and name == _SCALED,
        domain_ok=domain_ok,
        as_of_us=as_of_us,
    )
