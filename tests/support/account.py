"""A plugin of pytest that ends a run with an account: each test's outcome, time and lines.

`-p tests.support.account` loads it, so that it also runs where tests do in other processes. A test
adds a line with `record_property("account", line)`.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

_ACCOUNT = "account"
_BEGAN = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    """Remember when the run began."""
    config.stash[_BEGAN] = time.monotonic()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the account, the longest tests first."""
    reports = [
        report
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.getreports(outcome)
    ]
    terminalreporter.section("account")
    for line in account(reports):
        terminalreporter.write_line(line)
    took_s = time.monotonic() - config.stash[_BEGAN]
    terminalreporter.write_line(f"in all {took_s / 60:.1f} minutes")


def account(reports: Sequence[Any]) -> Iterator[str]:
    """Yield the lines of tests, by the reports of their phases."""
    spent: dict[str, float] = {}
    outcomes: dict[str, str] = {}
    lines: dict[str, list[str]] = {}
    for report in reports:
        spent[report.nodeid] = spent.get(report.nodeid, 0) + report.duration
        if outcomes.get(report.nodeid, "passed") == "passed":
            outcomes[report.nodeid] = report.outcome
        if report.when == "call":
            lines[report.nodeid] = [
                str(line) for name, line in report.user_properties if name == _ACCOUNT
            ]
    for test in sorted(spent, key=spent.__getitem__, reverse=True):
        yield f"{spent[test]:6.0f} s  {outcomes[test]}  {test.removeprefix('tests/')}"
        yield from (f"          {line}" for line in lines.get(test, ()))
