"""Real hourly consumption of British households, packaged with the program.

`data` has smart-meter readings in kWh with the outside temperature: electricity and gas of one
household, April 2020 to December 2022, and electricity of two more, half-hourly, 2012 to 2014. The
files are from the package `opendsm` 1.2.7, whose licence is beside them. There is no water meter;
the gas meter is used instead, since gas heats the water there.
"""

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from producers.errors import UnknownMeter
from schemas.events import MeterType

_ELECTRICITY = tuple(f"uk-electricity-hdd-only-hourly-sample-{number}" for number in range(3))
_GAS = ("uk-gas-hdd-only-hourly-sample-0",)

_SERIES: Mapping[str, Sequence[str]] = {
    MeterType.ELECTRICITY: _ELECTRICITY,
    MeterType.GAS: _GAS,
    MeterType.WATER: _GAS,
}

METER_TYPES = tuple(_SERIES)


@dataclass(frozen=True, slots=True)
class Consumption:
    """The readings of one meter."""

    hours: NDArray[np.datetime64]
    """The start of each hour in UTC, without gaps."""
    kwh: NDArray[np.float64]
    """The consumption of each hour; NaN if there is no reading."""
    temperature_c: NDArray[np.float64]
    """The outside temperature; NaN if it is unknown."""


def read_meter(meter_id: str, meter_type: str) -> Consumption:
    """Return the readings of a meter; an unknown id is mapped to one of the packaged meters.

    Raises:
        UnknownMeter: there are no meters of the type.
    """
    series = _SERIES.get(meter_type)
    if series is None:
        raise UnknownMeter(
            f"{meter_type!r} is not a meter type; the types are {', '.join(METER_TYPES)}"
        )
    name = meter_id if meter_id in series else series[crc32(meter_id.encode()) % len(series)]
    temperatures = "uk-tempC-sample-0" if name.endswith("-0") else "uk-tempC-sample-1_2"
    counted = _hourly(name, "start", "value")
    outside = _hourly(temperatures, "dt", "tempC")
    hours = np.arange(min(counted), max(counted) + np.timedelta64(1, "h"))
    return Consumption(
        hours,
        np.array([sum(counted.get(hour, (np.nan,))) for hour in hours]),
        np.array([float(np.mean(outside.get(hour, (np.nan,)))) for hour in hours]),
    )


def _hourly(name: str, time: str, value: str) -> dict[np.datetime64, list[float]]:
    packed = Path(__file__).with_name("data") / f"{name}.csv.gz"
    found: dict[np.datetime64, list[float]] = {}
    with gzip.open(packed, "rt", encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            if row[value]:
                hour = np.datetime64(row[time][:13], "h")
                found.setdefault(hour, []).append(float(row[value]))
    return found
