"""Estimate VaR and ES of one window by every configured method. Pure.

One period ahead, the methods with a closed form cost the same however long the window is, and are
estimated with each measure. All others look at the whole window, and are estimated every
`slower_every` returns.

Over more than one period the EWMA estimate, which has a zero mean, grows by the square root of the
horizon; every other method uses overlapping returns. VaR and ES are never annualised.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np

from schemas.events import MeasureStatus, RiskEstimate
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
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
    cornish_fisher,
    is_monotone,
)
from stream_processors.risk.window import ReturnWindow

CLOSED = ("normal", "student_t", "cornish_fisher", "ewma")
"""The methods with a closed form."""
METHODS = ("historical", *CLOSED, "fhs", "age_weighted", "student_t_fitted")

WHOLE_WINDOW: dict[str, Callable[[Floats, ConfidenceLevel], Estimate]] = {
    "historical": historical,
    "fhs": historical,
    "age_weighted": age_weighted,
    "student_t_fitted": student_t_fitted,
}
"""The other methods, each as a function of its scenarios and a level."""

_OBSERVED = frozenset({"historical", "fhs", "age_weighted"})
"""The methods whose VaR is one of the scenarios, so that some must lie beyond the level."""
_SCALED = "ewma"

VarEs = tuple[float, float]

ClosedForm = Callable[[Moments, float], list[VarEs]]
"""Returns VaR and ES at each level, from a window's moments and its EWMA deviation."""


class ClosedEstimates(NamedTuple):
    """The estimates of the closed forms, one period ahead."""

    pairs: Sequence[list[VarEs]]
    """For each method with a closed form, in the configured order, VaR and ES at each level."""
    moments: Moments


@dataclass(frozen=True)
class Methods:
    """The configured methods, levels and horizons."""

    names: tuple[str, ...] = ("historical",)
    levels: tuple[ConfidenceLevel, ...] = ()
    horizons: tuple[int, ...] = (1,)
    """In observation periods."""
    dof: float = 6.0
    """Degrees of freedom of `student_t`."""
    slower_every: int = 20
    """The number of a portfolio's returns between two looks at its whole window."""

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
            StudentT(ConfidenceLevel.of("0.95"), self.dof)

    @property
    def has_closed_forms(self) -> bool:
        """Whether a method with a closed form is configured."""
        return bool(self._closed_forms)

    def closed_forms(self, window: ReturnWindow) -> ClosedEstimates | None:
        """Estimate one period ahead by the closed forms, from a window that keeps moments.

        Returns:
            The estimates; None where a moment is larger than any float.
        """
        assert window.moments is not None
        try:
            moments = window.moments.moments()
        except OverflowError:
            return None
        deviation = sqrt(window.variance.variance(len(window)))
        pairs = [form(moments, deviation) for _, form in self._closed_forms]
        return ClosedEstimates(pairs, moments)

    def closed_events(
        self, closed: ClosedEstimates | None, as_of_us: int, *, missing: MeasureStatus
    ) -> Iterator[RiskEstimate]:
        """Yield the events of closed forms, including the horizons that are a matter of scale.

        Args:
            closed: the estimates, if there are any.
            as_of_us: the event time of the window's newest return.
            missing: the status of the events where there are none.
        """
        if closed is None:
            for name, _ in self._closed_forms:
                for level in self.levels:
                    yield _event(name, level, 1, None, as_of_us, status=missing)
            return
        in_domain = is_monotone(closed.moments)
        for (name, _), pairs in zip(self._closed_forms, closed.pairs, strict=True):
            domain_ok = in_domain or name != "cornish_fisher"
            for level, (var, es) in zip(self.levels, pairs, strict=True):
                for horizon in self.horizons if name == _SCALED else (1,):
                    root = sqrt(horizon)
                    scaled = Estimate(var * root, es * root)
                    yield _event(name, level, horizon, scaled, as_of_us, domain_ok=domain_ok)

    def slower_events(self, window: ReturnWindow, observations_min: int) -> Sequence[RiskEstimate]:
        """Return the events of the estimates that need the whole window."""
        if not self._slower:
            return []
        # An overflow gives an estimate that is not finite, which is published as unavailable.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._slower_events(window, observations_min)

    def _slower_events(self, window: ReturnWindow, observations_min: int) -> Sequence[RiskEstimate]:
        returns = np.array(window.values)
        as_of_us = window.newest_us
        events: list[RiskEstimate] = []
        for name, horizon in self._slower:
            if len(returns) < max(horizon, observations_min):
                events += [_event(name, level, horizon, None, as_of_us) for level in self.levels]
                continue
            ahead = overlapping(returns, horizon)
            moments = _moments(ahead) if name in CLOSED else None
            events += [
                self._slower_event(name, level, horizon, ahead, moments, as_of_us)
                for level in self.levels
            ]
        return events

    @cached_property
    def _closed_forms(self) -> Sequence[tuple[str, ClosedForm]]:
        return [
            (name, _closed_form(name, self.levels, self.dof))
            for name in self.names
            if name in CLOSED and (1 in self.horizons or name == _SCALED)
        ]

    @cached_property
    def _slower(self) -> Sequence[tuple[str, int]]:
        """The names and horizons of the estimates that need the whole window."""
        return [
            (name, horizon)
            for name in self.names
            for horizon in self.horizons
            if name != _SCALED and (horizon > 1 or name not in ("historical", *CLOSED))
        ]

    def _slower_event(
        self,
        name: str,
        level: ConfidenceLevel,
        horizon: int,
        ahead: Floats,
        moments: Moments | None,
        as_of_us: int,
    ) -> RiskEstimate:
        if name in CLOSED:
            if moments is None:
                return _event(
                    name, level, horizon, None, as_of_us, status=MeasureStatus.UNAVAILABLE
                )
            (pair,) = _closed_form(name, (level,), self.dof)(moments, 0.0)
            domain_ok = name != "cornish_fisher" or is_monotone(moments)
            return _event(name, level, horizon, Estimate(*pair), as_of_us, domain_ok=domain_ok)
        scenarios = scenarios_of(name, ahead)
        if name in _OBSERVED and len(scenarios) < level.observations_min:
            return _event(name, level, horizon, None, as_of_us)
        return _event(name, level, horizon, WHOLE_WINDOW[name](scenarios, level), as_of_us)


def scenarios_of(name: str, returns: Floats) -> Floats:
    """Return the scenarios of a method in `WHOLE_WINDOW`: the returns, perhaps filtered."""
    return filtered_scenarios(returns) if name == "fhs" else returns


def _moments(returns: Floats) -> Moments | None:
    """Return the moments of returns; None where one is larger than any float."""
    try:
        return RunningMoments(map(float, returns)).moments()
    except OverflowError:
        return None


def _closed_form(name: str, levels: Sequence[ConfidenceLevel], dof: float) -> ClosedForm:
    if name == "cornish_fisher":
        curves = [CornishFisher(level) for level in levels]
        return lambda moments, _: cornish_fisher(curves, moments)
    if name == "student_t":
        factors = [StudentT(level, dof).factors for level in levels]
    else:
        factors = [Normal(level).factors for level in levels]
    if name == "ewma":
        return lambda _, deviation: [(var * deviation, es * deviation) for var, es in factors]

    def about_the_mean(moments: Moments, _: float) -> list[VarEs]:
        # As `Normal.estimate` and `StudentT.estimate`, without a call and an object a level.
        mean, deviation = moments.mean, moments.deviation
        return [(var * deviation - mean, es * deviation - mean) for var, es in factors]

    return about_the_mean


def _event(
    name: str,
    level: ConfidenceLevel,
    horizon: int,
    estimate: Estimate | None,
    as_of_us: int,
    *,
    domain_ok: bool = True,
    status: MeasureStatus = MeasureStatus.INSUFFICIENT_DATA,
) -> RiskEstimate:
    """Return an estimate's event; an estimate that is not finite is unavailable."""
    if estimate is not None:
        finite = isfinite(estimate.var) and isfinite(estimate.es)
        status = MeasureStatus.OK if finite else MeasureStatus.UNAVAILABLE
    known = estimate if status is MeasureStatus.OK else None
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
