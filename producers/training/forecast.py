"""Trains a day-ahead forecast of a meter's consumption: gradient-boosted trees, step by step.

The features are known a day ahead: hour, weekday, month, temperature, and the consumption 24 hours
and a week before. The last eight weeks are held out; the baseline is the same hour a week before.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from producers.errors import TooFewReadings
from producers.training.meters import Consumption

_DAY, _WEEK = 24, 7 * 24
_HELD_OUT = 8 * _WEEK
_READINGS_MIN = 12 * _WEEK + _HELD_OUT
_STEPS = 12
_TREES_A_STEP = 10


@dataclass(frozen=True, slots=True)
class Step:
    """The progress of a training."""

    part: float
    """The completed fraction, up to 1."""
    metrics: dict[str, float]
    """Mean absolute errors on the held-out weeks in kWh, and the trees so far."""
    remaining_s: float
    """The estimated remaining time in seconds."""
    model: HistGradientBoostingRegressor


def train(consumption: Consumption, *, seed: int = 0) -> Iterator[Step]:
    """Train a dozen trees at a time, and yield the progress.

    Raises:
        TooFewReadings: there are too few hours to train and to test on.
    """
    known, kwh = _features(consumption)
    if len(kwh) < _READINGS_MIN:
        raise TooFewReadings(
            f"the meter has {len(kwh)} usable hours; a forecast needs {_READINGS_MIN}, "
            "including a week before the first"
        )
    seen, held = known[:-_HELD_OUT], known[-_HELD_OUT:]
    model = HistGradientBoostingRegressor(
        loss="squared_error", learning_rate=0.08, warm_start=True, random_state=seed
    )
    week_before = float(np.abs(held[:, -1] - kwh[-_HELD_OUT:]).mean())
    began = time.monotonic()
    for step in range(1, _STEPS + 1):
        model.set_params(max_iter=step * _TREES_A_STEP)
        # On so little data one thread is nearly as fast; several wait for each other in busy loops,
        # and where something else has the cores, for minutes.
        with threadpool_limits(limits=1, user_api="openmp"):
            model.fit(seen, kwh[:-_HELD_OUT])
            error = float(np.abs(model.predict(held) - kwh[-_HELD_OUT:]).mean())
        metrics = {
            "mean_absolute_error": error,
            "mean_absolute_error_of_week_before": week_before,
            "trees": float(step * _TREES_A_STEP),
        }
        took_s = time.monotonic() - began
        yield Step(step / _STEPS, metrics, took_s / step * (_STEPS - step), model)


def _features(consumption: Consumption) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features of each hour and its consumption, without incomplete hours."""
    hours, kwh = consumption.hours, consumption.kwh
    since_1970 = hours.astype("datetime64[h]").astype(np.int64)
    columns: list[NDArray[Any]] = [
        since_1970 % _DAY,
        (since_1970 // _DAY + 3) % 7,  # 1970 began on a Thursday
        hours.astype("datetime64[M]").astype(np.int64) % 12,
        consumption.temperature_c,
        np.roll(kwh, _DAY),
        np.roll(kwh, _WEEK),
    ]
    known = np.column_stack(columns).astype(np.float64)[_WEEK:]
    usable = np.isfinite(kwh[_WEEK:]) & np.isfinite(known[:, -1])
    return known[usable], kwh[_WEEK:][usable]
