"""The forecast: real meters, and better than the week before."""

from pathlib import Path

import numpy as np
import pytest

from producers.errors import TooFewReadings, UnknownMeter
from producers.training.forecast import train
from producers.training.meters import Consumption, read_meter
from producers.training.model_files import model_path
from schemas.events import TrainingCommand


@pytest.mark.parametrize("meter_type", ["electricity", "gas", "water"])
def test_it_beats_the_week_before_on_weeks_it_has_not_seen(meter_type: str) -> None:
    *_, last = train(read_meter("meter_test_001", meter_type))
    error = last.metrics["mean_absolute_error"]
    assert 0 < error < 0.95 * last.metrics["mean_absolute_error_of_week_before"]
    assert (last.part, last.remaining_s) == (1.0, 0.0)


def test_a_packaged_meter_is_had_by_its_name_and_others_stand_for_one_of_them() -> None:
    named = read_meter("uk-electricity-hdd-only-hourly-sample-0", "electricity")
    assert (len(named.kwh), str(named.hours[0])) == (23_508, "2020-04-01T01")
    assert named.kwh[0] == pytest.approx(0.078)
    again = read_meter("any", "gas"), read_meter("any", "gas")
    assert np.array_equal(again[0].kwh, again[1].kwh)


def test_half_hours_are_added_up() -> None:
    half_hourly = read_meter("uk-electricity-hdd-only-hourly-sample-2", "electricity")
    assert half_hourly.kwh[0] == pytest.approx(0.142 + 0.091)


def test_what_cannot_be_trained_says_why() -> None:
    with pytest.raises(
        UnknownMeter, match="'steam' is not a meter type; the types are electricity"
    ):
        read_meter("m", "steam")
    hours = np.arange("2020-01-01T00", "2020-02-01T00", dtype="datetime64[h]")
    few = Consumption(hours, np.ones(len(hours)), np.ones(len(hours)))
    with pytest.raises(TooFewReadings, match="576 usable hours; a forecast needs 3360"):
        next(train(few))


@pytest.mark.parametrize("meter_id", ["../../etc/passwd", "..", "a/b", "x" * 256, "é" * 256])
def test_no_meter_leads_out_of_the_folder(meter_id: str, tmp_path: Path) -> None:
    command = TrainingCommand(task_id="T", meter_id=meter_id, meter_type="gas", event_time_us=0)
    path = model_path(tmp_path, command)
    assert path.parent == tmp_path / "gas"
    assert path.resolve().parent == path.parent
    path.parent.mkdir()
    path.touch()
