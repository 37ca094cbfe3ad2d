"""Which classes are decoded together, and what is doubted."""

import pytest

from analytics.columns import event_classes
from analytics.native import Doubt, is_plain, layout_of, read
from schemas.codec import encode, version_of, versions
from schemas.events import AlertAck

ACK = AlertAck(alert_id="a", entity_id="e", event_time_us=1_790_000_000_000_000)


def test_classes_without_maps_and_without_unions_of_types_are_decoded_together() -> None:
    alone = {
        kind.__name__
        for kind in event_classes().values()
        if layout_of(kind, len(versions(kind.__name__))) is None
    }
    assert alone == {
        "BacktestCommand",
        "BacktestProgress",
        "BookRisk",
        "DashboardUpdate",
        "NotificationRoute",
        "TrainingProgress",
        "WindowTally",
    }


def test_a_union_of_types_is_not_plain() -> None:
    assert is_plain(["null", "double"])
    assert not is_plain({"type": "array", "items": ["long", "double"]})
    assert not is_plain({"type": "map", "values": "long"})


def test_a_group_with_a_malformed_value_is_doubted() -> None:
    value = encode(ACK)
    written = version_of(value)
    assert written is not None
    layout = layout_of(AlertAck, written.version)
    assert layout is not None
    times = [ACK.event_time_us] * 2
    assert read(layout, [value, value], times, 0)[1].as_py()["alert_id"] == "a"
    for wrong in (value[:-1], value + b"x", value[:10]):
        with pytest.raises(Doubt):
            read(layout, [value, wrong], times, 0)


def test_a_time_ahead_is_doubted_where_the_time_of_the_log_is_known() -> None:
    layout = layout_of(AlertAck, len(versions("AlertAck")))
    assert layout is not None
    values = [encode(ACK)]
    assert len(read(layout, values, [0], 0)) == 1
    with pytest.raises(Doubt, match="event_time_us"):
        read(layout, values, [ACK.event_time_us - 2], 1)
