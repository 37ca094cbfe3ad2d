"""Estimate VaR and ES of one window by every configured method. Pure.

One period ahead, the methods with a closed form cost the same however long the window is, and are
estimated with each measure. All others look at the whole window, and are estimated every
`slower_every` returns.

Over more than one period the methods with a zero mean, EWMA and the normal one with `mean="zero"`,
grow by the square root of the horizon. The others have no number, for the reason `not_scaled`, or
use overlapping returns where the configuration asks for them: these share most of their periods, so
their tail is too thin. VaR and ES are never annualised.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np

from schemas.events import MeasureStatus, RiskEstimate
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.measures import finite, historical_var_es, tail_of
from stream_processors.risk.methods import (
    Floats,
    age_weighted,
    ewma_deviation,
    filtered_scenarios,
    fit_student_t,
    historical,
    overlapping,
    sampling_error,
    student_t_fitted,
)
from stream_processors.risk.moments import (
    DECAY,
    CornishFisher,
    Estimate,
    Moments,
    Normal,
    RunningMoments,
    StudentT,
    cornish_fisher,
    is_monotone,
    require_variance,
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
_PAIRS_MIN = 2
"""The fewest returns that have a deviation."""

NOT_SCALED = "not_scaled"
"""The reason of an estimate over several periods whose method does not grow by their root."""
NO_MEAN = "no_mean"
"""The reason of an ES that is infinite, as of a Student-t with one degree of freedom."""

VarEs = tuple[float, float]

ClosedForm = Callable[[Moments, float], list[VarEs]]
"""Returns VaR and ES at each level, from a window's moments and its EWMA deviation."""

_OK, _DEGENERATE = MeasureStatus.OK, MeasureStatus.DEGENERATE
_UNAVAILABLE, _INSUFFICIENT = MeasureStatus.UNAVAILABLE, MeasureStatus.INSUFFICIENT_DATA
_OUT_OF_DOMAIN = MeasureStatus.OUT_OF_DOMAIN


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
    mean: Literal["sample", "zero"] = "sample"
    """The mean of `normal`: the sample's, or zero with the root mean square as deviation."""
    ewma_start: float | None = None
    """The deviation of `ewma` before the window's first return; None: weights that sum to one."""
    ewma_decay: float = DECAY
    """The decay factor of `ewma` and of the deviations by which `fhs` filters."""
    overlapping: bool = False
    """Whether methods that are not scaled to longer horizons use overlapping returns for them."""

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in METHODS:
                raise InvalidInput(f"{name!r} is no method; there are {', '.join(METHODS)}")
        for horizon in self.horizons:
            if horizon < 1:
                raise InvalidInput(f"the horizon is {horizon}; it must be 1 period or more")
        if self.slower_every < 1:
            raise InvalidInput(f"slower_every is {self.slower_every}; it must be 1 or more")
        if self.mean not in ("sample", "zero"):
            raise InvalidInput(f"the mean is {self.mean!r}; it must be sample or zero")
        if "student_t" in self.names:
            require_variance(self.dof)
        ewma_deviation(np.zeros(1), self.ewma_start, self.ewma_decay)

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
        if moments.deviation == 0 and window.is_constant:
            # The sums have a unit, and the mean of equal returns must be exact.
            moments = moments._replace(mean=window.values[0])
        deviation = 0.0
        if "ewma" in self.names:
            values = np.frombuffer(window.values)
            deviation = ewma_deviation(values, self.ewma_start, self.ewma_decay)
        pairs = [form(moments, deviation) for _, _, form in self._closed_forms]
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
            for name, horizons, _ in self._closed_forms:
                for level in self.levels:
                    for horizon in horizons:
                        yield _missing(name, level, horizon, as_of_us, missing)
            return
        is_constant = closed.moments.deviation == 0
        in_domain = is_monotone(closed.moments)
        for (name, horizons, _), pairs in zip(self._closed_forms, closed.pairs, strict=True):
            domain_ok = in_domain or name != "cornish_fisher"
            status = _status(is_constant=is_constant, domain_ok=domain_ok)
            dof = self.dof if name == "student_t" else None
            for level, (var, es) in zip(self.levels, pairs, strict=True):
                for horizon in horizons:
                    root = sqrt(horizon)
                    estimate = Estimate(var * root, es * root)
                    yield _event(name, level, horizon, as_of_us, estimate, status=status, dof=dof)

    def historical_events(
        self, window: ReturnWindow, as_of_us: int, observations_min: int
    ) -> Iterator[RiskEstimate]:
        """Yield the historical estimates one period ahead, at each level.

        Args:
            window: the returns.
            as_of_us: the event time of the newest of them.
            observations_min: the fewest of them; each level also has a minimum of its own.
        """
        if "historical" not in self.names or 1 not in self.horizons:
            return
        count = len(window)
        for level in self.levels:
            if count < max(observations_min, level.observations_min):
                yield _missing("historical", level, 1, as_of_us, _INSUFFICIENT)
                continue
            worse, tail_size = tail_of(level, count)
            ascending = window.worst(worse + 1)
            estimate = Estimate(*historical_var_es(ascending, worse, tail_size))
            status = _status(is_constant=window.is_constant)
            yield _event("historical", level, 1, as_of_us, estimate, status=status)

    def slower_events(self, window: ReturnWindow, observations_min: int) -> Sequence[RiskEstimate]:
        """Return the events of the estimates that need the whole window."""
        if not self._slower:
            return []
        # An overflow gives an estimate that is not finite, which is published as unavailable.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._slower_events(window, observations_min)

    def unscaled_events(self, as_of_us: int) -> Iterator[RiskEstimate]:
        """Yield the events of the horizons for which a method has no number, and why."""
        for name, horizon in self._unscaled:
            for level in self.levels:
                yield _missing(name, level, horizon, as_of_us, _UNAVAILABLE, NOT_SCALED)

    def _slower_events(self, window: ReturnWindow, observations_min: int) -> Sequence[RiskEstimate]:
        returns = np.array(window.values)
        as_of_us = window.newest_us
        events: list[RiskEstimate] = []
        for name, horizon in self._slower:
            if len(returns) < max(horizon + _PAIRS_MIN - 1, observations_min):
                events += [
                    _missing(name, level, horizon, as_of_us, _INSUFFICIENT) for level in self.levels
                ]
                continue
            ahead = overlapping(returns, horizon)
            events += _Slower(self, name, horizon, as_of_us).events(ahead)
        return events

    def _is_scaled(self, name: str) -> bool:
        """Return whether a method has a zero mean, so that it grows by the horizon's root."""
        return name == "ewma" or (name == "normal" and self.mean == "zero")

    def _horizons_of(self, name: str) -> tuple[int, ...]:
        """Return the horizons of a closed form that are a matter of scale."""
        if self._is_scaled(name):
            return self.horizons
        return (1,) if 1 in self.horizons else ()

    @cached_property
    def _closed_forms(self) -> Sequence[tuple[str, tuple[int, ...], ClosedForm]]:
        """The names, horizons and functions of the closed forms."""
        return [
            (name, horizons, _closed_form(name, self.levels, self))
            for name in self.names
            if name in CLOSED and (horizons := self._horizons_of(name))
        ]

    @cached_property
    def _slower(self) -> Sequence[tuple[str, int]]:
        """The names and horizons of the estimates that need the whole window."""
        return [
            (name, horizon)
            for name in self.names
            for horizon in self.horizons
            if not self._is_scaled(name)
            and (self.overlapping if horizon > 1 else name != "historical" and name not in CLOSED)
        ]

    @cached_property
    def _unscaled(self) -> Sequence[tuple[str, int]]:
        """The names and horizons for which there are no estimates."""
        return [
            (name, horizon)
            for name in self.names
            for horizon in self.horizons
            if horizon > 1 and not self.overlapping and not self._is_scaled(name)
        ]


class _Slower(NamedTuple):
    """One method and horizon, of which the whole window is looked at."""

    methods: Methods
    name: str
    horizon: int
    as_of_us: int

    def events(self, ahead: Floats) -> Iterator[RiskEstimate]:
        """Yield the events of returns over the horizon, at each level."""
        if not np.isfinite(ahead).all():
            return self._unavailable()
        if self.name in CLOSED:
            return self._closed(ahead)
        return self._fitted(ahead) if self.name == "student_t_fitted" else self._observed(ahead)

    def _unavailable(self) -> Iterator[RiskEstimate]:
        """Yield the events of returns that are too large for a float."""
        for level in self.methods.levels:
            yield _missing(self.name, level, self.horizon, self.as_of_us, _UNAVAILABLE)

    def _closed(self, ahead: Floats) -> Iterator[RiskEstimate]:
        moments = _moments(ahead)
        if moments is None:
            yield from self._unavailable()
            return
        for level in self.methods.levels:
            (pair,) = _closed_form(self.name, (level,), self.methods)(moments, 0.0)
            domain_ok = self.name != "cornish_fisher" or is_monotone(moments)
            status = _status(is_constant=moments.deviation == 0, domain_ok=domain_ok)
            dof = self.methods.dof if self.name == "student_t" else None
            yield self._event(level, Estimate(*pair), status, dof=dof)

    def _fitted(self, ahead: Floats) -> Iterator[RiskEstimate]:
        fit = fit_student_t(ahead)
        status = _status(is_constant=fit.scale == 0)
        dof = finite(fit.dof)
        for level in self.methods.levels:
            estimate = fit.estimate(level)
            reason = NO_MEAN if fit.dof <= 1 and isfinite(estimate.var) else ""
            yield self._event(level, estimate, status, dof=dof, reason=reason)

    def _observed(self, ahead: Floats) -> Iterator[RiskEstimate]:
        scenarios = scenarios_of(self.name, ahead, self.methods.ewma_decay)
        if not np.isfinite(scenarios).all():
            yield from self._unavailable()
            return
        with_errors = self.name == "fhs"
        for level in self.methods.levels:
            if len(scenarios) < level.observations_min:
                yield _missing(self.name, level, self.horizon, self.as_of_us, _INSUFFICIENT)
                continue
            estimate = WHOLE_WINDOW[self.name](scenarios, level)
            status = _status(is_constant=bool(np.ptp(scenarios) == 0))
            event = self._event(level, estimate, status)
            if with_errors and event.var is not None:
                error = sampling_error(scenarios, level)
                event = event._replace(var_error=finite(error.var), es_error=finite(error.es))
            yield event

    def _event(
        self,
        level: ConfidenceLevel,
        estimate: Estimate,
        status: MeasureStatus,
        *,
        dof: float | None = None,
        reason: str = "",
    ) -> RiskEstimate:
        return _event(
            self.name,
            level,
            self.horizon,
            self.as_of_us,
            estimate,
            status=status,
            dof=dof,
            overlapping=self.horizon > 1,
            reason=reason,
        )


def scenarios_of(name: str, returns: Floats, decay: float = DECAY) -> Floats:
    """Return the scenarios of a method in `WHOLE_WINDOW`: the returns, perhaps filtered."""
    return filtered_scenarios(returns, decay) if name == "fhs" else returns


def _moments(returns: Floats) -> Moments | None:
    """Return the moments of returns; None where one is larger than any float."""
    try:
        moments = RunningMoments(map(float, returns)).moments()
    except OverflowError:
        return None
    return moments if np.ptp(returns) else moments._replace(mean=float(returns[0]))


def _closed_form(name: str, levels: Sequence[ConfidenceLevel], methods: Methods) -> ClosedForm:
    if name == "cornish_fisher":
        curves = [CornishFisher(level) for level in levels]
        return lambda moments, _: cornish_fisher(curves, moments)
    if name == "student_t":
        factors = [StudentT(level, methods.dof).factors for level in levels]
    else:
        factors = [Normal(level).factors for level in levels]
    if name == "ewma":
        return lambda _, deviation: [(var * deviation, es * deviation) for var, es in factors]

    def about_zero(moments: Moments, _: float) -> list[VarEs]:
        deviation = moments.root_mean_square
        return [(var * deviation, es * deviation) for var, es in factors]

    def about_the_mean(moments: Moments, _: float) -> list[VarEs]:
        # As `Normal.estimate` and `StudentT.estimate`, without a call and an object a level.
        mean, deviation = moments.mean, moments.deviation
        return [(var * deviation - mean, es * deviation - mean) for var, es in factors]

    return about_zero if name == "normal" and methods.mean == "zero" else about_the_mean


def _status(*, is_constant: bool, domain_ok: bool = True) -> MeasureStatus:
    """Return the status of an estimate that has a number."""
    if not domain_ok:
        return _OUT_OF_DOMAIN
    return _DEGENERATE if is_constant else _OK


def _missing(
    name: str,
    level: ConfidenceLevel,
    horizon: int,
    as_of_us: int,
    status: MeasureStatus,
    reason: str = "",
) -> RiskEstimate:
    """Return the event of an estimate that has no number."""
    return RiskEstimate(name, level.number, horizon, status, as_of_us, reason=reason)


def _event(
    name: str,
    level: ConfidenceLevel,
    horizon: int,
    as_of_us: int,
    estimate: Estimate,
    *,
    status: MeasureStatus,
    dof: float | None = None,
    overlapping: bool = False,
    reason: str = "",
) -> RiskEstimate:
    """Return the event of an estimate; one that is not finite is unavailable.

    Only an ES whose reason says why it is infinite may be missing beside a VaR.
    """
    var, es = finite(estimate.var), finite(estimate.es)
    if var is None or (es is None and not reason):
        var, es, status = None, None, _UNAVAILABLE
    return RiskEstimate(
        name,
        level.number,
        horizon,
        status,
        as_of_us,
        var,
        es,
        horizon > 1 and not overlapping,
        status is not _OUT_OF_DOMAIN,
        dof,
        overlapping=overlapping,
        reason=reason,
    )
