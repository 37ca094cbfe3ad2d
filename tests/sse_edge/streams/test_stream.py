import pytest

from sse_edge.errors import InvalidParameter, Unframable
from sse_edge.log.record import Partition, Record
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.render import render
from sse_edge.streams.requests import many_channels, one_channel
from tests.support.edge import alert, progress


def record(value: bytes | None) -> Record:
    return Record(Partition("risk.alerts", 0), 0, 1_223_596_800_123, b"p", value, None)


def test_entity_parameters_belong_to_channels() -> None:
    by_task = one_channel("training", {"task_id": "t"})
    assert by_task.identity == one_channel("training", {"entity_id": "t"}).identity
    assert by_task.has_end
    assert not one_channel("alerts", {"entity_id": "AAPL"}).has_end
    with pytest.raises(InvalidParameter, match=r"task_id: the alerts channel is filtered by ent"):
        one_channel("alerts", {"task_id": "t"})
    with pytest.raises(InvalidParameter, match="two different entities"):
        one_channel("training", {"task_id": "t", "entity_id": "u"})
    with pytest.raises(InvalidParameter, match="task_id: it has 257 characters"):
        one_channel("training", {"task_id": "t" * 257})


def test_event_names_are_checked() -> None:
    with pytest.raises(InvalidParameter, match=r"'risk_alerts' is no event .* it has risk_alert"):
        one_channel("alerts", {}, ["risk_alerts"])


def test_many_channels_are_one_stream_in_whatever_order_they_are_named() -> None:
    one = many_channels(["training:T1", "alerts", "training:T2"])
    other = many_channels(["alerts", "training:T2", "training:T1"])
    assert one.identity == other.identity
    assert one.name == "alerts,training"
    assert one.identity != many_channels(["alerts", "training"]).identity
    assert many_channels(["training:T1", "training"]) == many_channels(["training"])


@pytest.mark.parametrize("wrong", [[], ["nothing"], ["training:"], ["alerts:" + "x" * 257]])
def test_topics_are_checked(wrong: list[str]) -> None:
    with pytest.raises(InvalidParameter, match=r"^topic: "):
        many_channels(wrong)


def test_a_record_becomes_an_event_in_an_envelope() -> None:
    frame = render(CHANNELS["alerts"], record(alert("AAPL", 3)))
    assert frame is not None
    assert frame.event == "risk_alert"
    assert frame.body.startswith(b'event: risk_alert\ndata: {"event":"risk_alert","data":{')
    assert frame.body.endswith(b'"timestamp":"2008-10-10T00:00:00.123000Z"}\n')
    assert b'"entity_id":"AAPL"' in frame.body
    assert b'"as_of":"1970-01-01T00:00:00.000003Z"' in frame.body


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"", "found no bytes"),
        (b"\xc3\x01", "single-object marker"),
        (progress("t", 1.0), "expected RiskAlert, found TrainingProgress"),
        (alert("p", 1) + b"\x00", "1 bytes follow"),
    ],
)
def test_what_cannot_be_rendered_is_refused_by_name(value: bytes, named: str) -> None:
    with pytest.raises(Unframable, match=named):
        render(CHANNELS["alerts"], record(value))


def test_a_tombstone_says_nothing() -> None:
    assert render(CHANNELS["alerts"], record(None)) is None


def test_metrics_know_streams_of_several_channels_by_one_name() -> None:
    """Clients may choose among thousands of combinations."""
    assert one_channel("alerts", {}).label == "alerts"
    assert many_channels(["training:T1", "training:T2"]).label == "training"
    assert many_channels(["alerts", "training"]).label == "several"
