"""The faults and figures of a scene, and the account of all scenes at the end of `make faults`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest

_COLUMNS = ("expected", "delivered", "lost", "repeated", "out of order")


class Flow(NamedTuple):
    """The records of one kind that a scene expected and found."""

    name: str
    expected: int
    delivered: int
    lost: int
    repeated: int
    out_of_order: int


class SceneReport:
    """Takes the figures of one scene, as plain values, which other processes can read."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record

    def fault(self, name: str, **seconds: float) -> None:
        """Note a fault, and after how many seconds each part went on."""
        self._record("fault", (name, tuple(seconds.items())))

    def flow(self, flow: Flow) -> None:
        """Note what became of the records of one kind."""
        self._record("flow", tuple(flow))


def account(reports: Sequence[pytest.TestReport]) -> Iterator[str]:
    """Render the lines of the account."""
    yield f"{'':<28}" + "".join(f"{column:>14}" for column in _COLUMNS)
    for report in reports:
        scene = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        yield f"{scene}: {report.outcome} in {report.duration:.0f} s"
        for name, fault in _found(report, "fault"):
            waits = ", ".join(f"{part} after {s:.1f} s" for part, s in fault)
            yield f"  {name}" + (f": {waits}" if waits else "")
        for name, *counts in _found(report, "flow"):
            yield f"  {name:<26}" + "".join(f"{count:>14,}" for count in counts)


def _found(report: pytest.TestReport, kind: str) -> list[Any]:
    return [value for name, value in report.user_properties if name == kind]
