"""The faults and figures of a scene, and the account of all scenes at the end of `make faults`."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

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


class Fault(NamedTuple):
    """A fault, and the seconds from its beginning until things went on."""

    name: str
    seconds: Sequence[tuple[str, float]]


class SceneReport:
    """Takes the figures of one scene."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record

    def fault(self, name: str, **seconds: float) -> None:
        """Note a fault, and after how many seconds each part went on."""
        self._record("fault", Fault(name, tuple(seconds.items())))

    def flow(self, flow: Flow) -> None:
        """Note what became of the records of one kind."""
        self._record("flow", flow)


def account(reports: Sequence[pytest.TestReport]) -> Iterator[str]:
    """Render the lines of the account."""
    yield f"{'':<28}" + "".join(f"{column:>14}" for column in _COLUMNS)
    for report in reports:
        scene = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        yield f"{scene}: {report.outcome} in {report.duration:.0f} s"
        for name, value in report.user_properties:
            if name == "fault" and isinstance(value, Fault):
                waits = ", ".join(f"{part} after {s:.1f} s" for part, s in value.seconds)
                yield f"  {value.name}" + (f": {waits}" if waits else "")
        for name, value in report.user_properties:
            if name == "flow" and isinstance(value, Flow):
                yield f"  {value.name:<26}" + "".join(f"{count:>14,}" for count in value[1:])
