from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from schemas.instants import from_datetime, from_rfc3339, to_date, to_rfc3339

moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


@given(moments)
def test_an_instant_survives_its_text(moment: datetime) -> None:
    instant = from_datetime(moment)
    assert from_rfc3339(to_rfc3339(instant)) == instant
    assert to_date(instant) == moment.date().isoformat()


def test_offsets_are_heeded_and_a_time_without_one_is_refused() -> None:
    assert from_rfc3339("2008-10-10T02:00:00+02:00") == from_rfc3339("2008-10-10T00:00:00Z")
    with pytest.raises(ValueError, match="has no time zone"):
        from_rfc3339("2008-10-10T00:00:00")
