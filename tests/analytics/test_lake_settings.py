"""The settings of `tapewire lake run` have ranges."""

import pytest

from analytics.lake_settings import LakeSettings
from kafka_io.errors import InvalidSetting


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TAPEWIRE_LAKE_INTERVAL_S", "0"), ("TAPEWIRE_LAKE_BATCH_BYTES", "1000")],
)
def test_a_value_out_of_range_is_refused(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSetting, match=variable):
        LakeSettings()
