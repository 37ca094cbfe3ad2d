import io
import json
import logging
import subprocess
import sys

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

from kafka_io.log_lines import FewRepeats, JsonFormatter, LineFormatter, about, escaped

FORGED = "a name\n2026-01-01 00:00:00,000 INFO sse_edge.app forged"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> tuple[logging.Logger, io.StringIO]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(LineFormatter())
    logger = logging.getLogger("of.a.test")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    return logger, written


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain: ä 漢 \\n", "plain: ä 漢 \\n"),
        ("a\nb\r\nc", r"a\nb\r\nc"),
        ("\x1b[2J\x00\x7f\x9b", r"\x1b[2J\x00\x7f\x9b"),
        ("a\u2028b\u202ec", r"a\u2028b\u202ec"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_escaped_and_others_stay(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_record_is_one_line_whatever_its_text(
    lines: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, written = lines
    logger.warning("refused %s", FORGED)
    (line,) = written.getvalue().splitlines()
    assert line.endswith(
        r"WARNING of.a.test refused a name\n2026-01-01 00:00:00,000 INFO "
        "sse_edge.app forged"
    )


def test_the_text_of_an_error_begins_no_line_of_its_own(
    lines: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, written = lines
    try:
        int(FORGED)
    except ValueError:
        logger.exception("it failed", stack_info=True)
    first, *rest = written.getvalue().splitlines()
    assert first.endswith("ERROR of.a.test it failed")
    assert any("forged" in line for line in rest)
    assert all(line.startswith("    ") for line in rest)


def test_a_process_logs_from_its_level_on_in_such_lines() -> None:
    program = (
        "import logging; from kafka_io.log_lines import configure_logging; "
        "configure_logging('WARNING'); logging.info('no'); logging.warning('a\\nb')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stderr.splitlines()[0].endswith(r"WARNING root a\nb")
    assert len(ran.stderr.splitlines()) == 1


def as_json(message: str, *args: object, **fields: object) -> dict[str, object]:
    record = logging.LogRecord("of.a.test", logging.WARNING, "", 0, message, args, None)
    record.created = 1_700_000_000.25
    vars(record).update(fields)
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    parsed: dict[str, object] = json.loads(line)
    return parsed


def test_as_json_a_record_is_one_object_whose_texts_are_escaped_as_well() -> None:
    assert as_json("refused %s", FORGED + "\x1b[2J\ud800") == {
        "time": "2023-11-14T22:13:20.250000Z",
        "level": "WARNING",
        "logger": "of.a.test",
        "message": "refused a name\\n2026-01-01 00:00:00,000 INFO sse_edge.app forged"
        "\\x1b[2J\\ud800",
    }


def test_as_json_a_line_about_a_record_names_it() -> None:
    line = as_json("skipped", **about("risk.alerts\n", 3, 0))
    assert [line[name] for name in ("topic", "partition", "offset")] == ["risk.alerts\\n", 3, 0]
    assert "offset" not in as_json("lost", **about("risk.alerts", 3))


def test_as_json_a_line_within_a_span_names_it() -> None:
    span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False))
    with use_span(span):
        line = as_json("a line")
    assert line["trace_id"] == "00000000000000000000000000000abc"
    assert line["span_id"] == "0000000000000def"
    assert "trace_id" not in as_json("a line")


def test_as_json_a_traceback_is_a_text_of_escaped_lines() -> None:
    line: dict[str, object] = {}
    try:
        int("\x1b[2J\u2028")
    except ValueError:
        line = as_json("it failed", exc_info=sys.exc_info(), stack_info="Stack\x00")
    text = str(line["exception"])
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith(r"'\x1b[2J\u2028'")
    assert line["stack"] == r"Stack\x00"


def test_a_process_logs_json_where_its_format_is_json() -> None:
    program = (
        "import logging; from kafka_io.log_lines import configure_logging; "
        "configure_logging('WARNING', 'json'); logging.warning('a\\nb')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    (line,) = ran.stderr.splitlines()
    assert json.loads(line)["message"] == r"a\nb"


def test_as_json_fields_of_any_logger_are_shown() -> None:
    line = as_json("polled", topic=b"t", partition=float("nan"), offset={"t": 1})
    assert (line["topic"], line["partition"], line["offset"]) == ("b't'", "nan", "{'t': 1}")


def library_line(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("aiokafka.client", 40, "client.py", 1, message, arguments, None)


def test_lines_that_aiokafka_repeats_are_counted_instead_of_logged() -> None:
    now_s = 100.0
    few = FewRepeats(lambda: now_s)
    passed = [few.filter(library_line("node %d is away: %s", 1, number)) for number in range(10)]
    assert passed == [True] * 3 + [False] * 7
    assert few.filter(library_line("another line"))
    now_s = 110.0
    line = library_line("node %d is away: %s", 2, "100 %")
    assert few.filter(line)
    assert line.getMessage() == "node 2 is away: 100 % (7 more such lines were not logged)"
    line = library_line("node %d is away: %s", 2, "100 %")
    assert few.filter(line)
    assert line.getMessage() == "node 2 is away: 100 %"


def test_lines_of_our_own_are_all_logged() -> None:
    few = FewRepeats()
    assert all(
        few.filter(logging.LogRecord("kafka_io.group", 30, "group.py", 1, "lost", (), None))
        for _ in range(100)
    )


def test_kinds_of_lines_are_forgotten_when_they_are_many() -> None:
    few = FewRepeats()
    assert all(few.filter(library_line(f"line {number}")) for number in range(5_000))
