"""The figures of each scene, and the account at the end of the run."""

from collections.abc import Callable

import pytest

from tests.faults.report import SceneReport, account


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> SceneReport:
    """Takes what a scene did and measured."""
    return SceneReport(record_property)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the account, if a scene has figures."""
    ended = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" and report.user_properties
    ]
    if ended:
        terminalreporter.section("account of the faults")
        for line in account(ended):
            terminalreporter.write_line(line)
