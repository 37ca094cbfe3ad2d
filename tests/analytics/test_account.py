"""The account at the end of `make analytics-test` and `make engines-test`."""

from types import SimpleNamespace

from tests.support.account import account


def report(nodeid: str, when: str, duration: float, **fields: object) -> SimpleNamespace:
    """Return a report of a phase as pytest makes it."""
    given = {"outcome": "passed", "user_properties": [], **fields}
    return SimpleNamespace(nodeid=nodeid, when=when, duration=duration, **given)


def test_the_longest_test_comes_first_with_the_time_of_its_fixtures() -> None:
    lines = account(
        [
            report("tests/a.py::short", "call", 3.0),
            report("tests/b.py::long", "setup", 2.0),
            report("tests/b.py::long", "call", 2.4, user_properties=[("account", "7 kills")]),
        ]
    )
    assert list(lines) == [
        "     4 s  passed  b.py::long",
        "          7 kills",
        "     3 s  passed  a.py::short",
    ]


def test_a_test_that_fails_in_any_phase_has_failed() -> None:
    reports = [
        report("tests/a.py::one", "setup", 1.0),
        report("tests/a.py::one", "call", 1.0, outcome="failed"),
        report("tests/a.py::one", "teardown", 1.0),
    ]
    assert list(account(reports)) == ["     3 s  failed  a.py::one"]
