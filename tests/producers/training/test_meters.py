import numpy as np
import pytest

from producers.errors import UnknownMeter
from producers.training.meters import METER_TYPES, read_meter


@pytest.mark.parametrize("meter_type", METER_TYPES)
def test_hours_have_no_gaps_and_each_has_a_reading_or_nan(meter_type: str) -> None:
    consumption = read_meter("any", meter_type)
    assert set(np.diff(consumption.hours).astype(int)) == {1}
    assert len(consumption.hours) == len(consumption.kwh) == len(consumption.temperature_c)
    read = consumption.kwh[~np.isnan(consumption.kwh)]
    assert len(read) > 0.5 * len(consumption.kwh)
    assert (read >= 0).all()


def test_an_unknown_type_names_the_known_ones() -> None:
    with pytest.raises(UnknownMeter, match="the types are electricity, gas, water"):
        read_meter("m", "steam")
