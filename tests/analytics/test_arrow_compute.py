"""The functions of Arrow are those of the library."""

import pyarrow as pa

from analytics.arrow_compute import pc


def test_functions_take_columns() -> None:
    assert pc.max(pa.array([1, 3, 2])).as_py() == 3
