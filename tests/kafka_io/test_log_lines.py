import io
import logging
import subprocess
import sys

import pytest

from kafka_io.log_lines import LineFormatter, escaped

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
