"""The account at the end of `make infra-test`: what each test has seen."""

from collections.abc import Callable

import pytest

_ACCOUNT = "account"


@pytest.fixture
def account(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes lines for the account at the end of the run."""
    return lambda line: record_property(_ACCOUNT, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests of this folder have seen, if they have seen anything."""
    ended = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" and any(name == _ACCOUNT for name, _ in report.user_properties)
    ]
    if not ended:
        return
    terminalreporter.section("account of infra")
    for report in ended:
        scene = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        terminalreporter.write_line(f"{scene}: {report.outcome} in {report.duration:.0f} s")
        for name, line in report.user_properties:
            if name == _ACCOUNT:
                terminalreporter.write_line(f"  {line}")
