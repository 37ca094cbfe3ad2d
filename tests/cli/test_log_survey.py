from cli.log_survey import WrittenVersion, summarize
from kafka_io.reader import ConsumedRecord
from schemas.codec import MARKER, encode, versions
from schemas.events import ReturnBatch

VALUE = encode(ReturnBatch(returns=[]))
COUNT = len(versions("ReturnBatch"))
DEMO = [("ce_source", b"/producers/demo"), ("ce_recordedtime", b"2026-11-30T00:00:05Z")]
MIDNIGHT = 1_795_996_800.0


def record(value: bytes | None, at: float = MIDNIGHT, **changes: object) -> ConsumedRecord:
    made = ConsumedRecord("x.portfolio.returns", 0, 1, at, None, value, DEMO)
    return made._replace(**changes)  # type: ignore[arg-type]  # as each test needs it


def test_each_writer_has_the_version_of_its_newest_record() -> None:
    found = summarize([record(VALUE), record(None), record(b"text")], "x.")
    assert found.versions == [
        WrittenVersion("portfolio.returns", "ReturnBatch", COUNT, COUNT, "/producers/demo")
    ]
    assert found.versions[0].is_current
    assert found.others == 1
    assert found.newest_ms == MIDNIGHT * 1000


def test_an_unknown_schema_is_named_by_its_type_or_its_mark() -> None:
    unknown = MARKER + b"\x01" * 8
    typed = [("ce_type", b"tapewire.Novelty")]
    found = summarize(
        [record(unknown, headers=typed), record(unknown, headers=[], topic="x.risk.state")], "x."
    )
    assert [(written.record, written.version, written.source) for written in found.versions] == [
        ("Novelty", None, "states of processors"),
        ("01" * 8, None, "states of processors"),
    ]
    assert not found.versions[0].is_current


def test_a_clock_that_is_ahead_is_seen_by_the_time_of_appending() -> None:
    odd = [("ce_source", b"/odd"), ("ce_recordedtime", b"yesterday")]
    found = summarize([record(VALUE), record(VALUE, MIDNIGHT + 60), record(VALUE, headers=odd)], "")
    assert found.ahead_s == {"/producers/demo": 5.0}
