"""Trains a day-ahead forecast of a meter's consumption: gradient-boosted trees, step by step.

The features are known a day ahead: hour, weekday, month, temperature, and the consumption 24 hours
and a week before. The last eight weeks are held out; the baseline is the same hour a week before.
Four weeks before them tell when more trees bring no more progress: the training stops then, and the
best model counts.
"""

import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from producers.errors import TooFewReadings
from producers.training.meters import Consumption

_DAY, _WEEK = 24, 7 * 24
_HELD_OUT = 8 * _WEEK
_VALIDATION = 4 * _WEEK
_READINGS_MIN = 8 * _WEEK + _VALIDATION + _HELD_OUT
_PATIENCE = 2
"""The steps without progress after which the training stops."""
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
    """Train some trees at a time, and yield the progress; the last step has the best model.

    Raises:
        TooFewReadings: there are too few hours to train and to test on.
    """
    features, kwh = _features(consumption)
    if len(kwh) < _READINGS_MIN:
        raise TooFewReadings(
            f"the meter has {len(kwh)} usable hours; a forecast needs {_READINGS_MIN}, "
            "including a week before the first"
        )
    fitted = slice(0, len(kwh) - _VALIDATION - _HELD_OUT)
    valid = slice(fitted.stop, len(kwh) - _HELD_OUT)
    held = slice(valid.stop, len(kwh))
    model = HistGradientBoostingRegressor(
        loss="squared_error", learning_rate=0.08, warm_start=True, random_state=seed
    )
    week_before = float(np.abs(features[held, -1] - kwh[held]).mean())
    best: Step | None = None
    best_error, best_step = np.inf, 0
    began = time.monotonic()
    for step in range(1, _STEPS + 1):
        model.set_params(max_iter=step * _TREES_A_STEP)
        # On so little data one thread is nearly as fast; several wait for each other in busy loops,
        # and where something else has the cores, for minutes.
        with threadpool_limits(limits=1, user_api="openmp"):
            model.fit(features[fitted], kwh[fitted])
            predicted = model.predict(features[valid.start :])
        errors = np.abs(predicted - kwh[valid.start :])
        metrics = {
            "mean_absolute_error": float(errors[_VALIDATION:].mean()),
            "mean_absolute_error_of_week_before": week_before,
            "trees": float(step * _TREES_A_STEP),
        }
        took_s = time.monotonic() - began
        remaining_s = took_s / step * (_STEPS - step)
        done = Step(step / _STEPS, metrics, remaining_s, model)
        error = float(errors[:_VALIDATION].mean())
        if error < best_error:
            best_error, best_step, best = error, step, replace(done, model=deepcopy(model))
        if step == _STEPS or step - best_step == _PATIENCE:
            break
        yield done
    assert best is not None
    yield replace(best, part=1.0, remaining_s=0.0)


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
    features = np.column_stack(columns).astype(np.float64)[_WEEK:]
    usable = np.isfinite(kwh[_WEEK:]) & np.isfinite(features[:, -1])
    return features[usable], kwh[_WEEK:][usable]
