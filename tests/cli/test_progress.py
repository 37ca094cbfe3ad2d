import io

import pytest
from rich.console import Console

from cli import progress
from cli.progress import progress_bar, working


def test_a_terminal_shows_a_bar() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with progress_bar("reading records", console) as report:
        report(5, 10)
        report(10, 10)
    assert "reading records" in text.getvalue()
    assert "10/10" in text.getvalue()


def test_a_pipe_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=False, width=100)
    with progress_bar("reading records", console) as report:
        report(1, 1_000)
        monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
        report(500, 1_000)
    assert text.getvalue() == "reading records: 500 of 1,000\n"


def test_work_of_unknown_length_is_shown_in_a_terminal_only() -> None:
    shown, piped = io.StringIO(), io.StringIO()
    for text, is_terminal in ((shown, True), (piped, False)):
        console = Console(file=text, force_terminal=is_terminal, width=100)
        with working("growing topics", console):
            pass
    assert "growing topics" in shown.getvalue()
    assert piped.getvalue() == ""
