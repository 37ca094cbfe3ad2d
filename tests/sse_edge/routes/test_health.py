"""What `/health/ready` says of the parts that a supervisor runs."""

import json
from pathlib import Path

import pytest

from infra.part_states import PartState, PartStates
from sse_edge.routes.health import _parts


def test_a_part_that_is_down_is_named(tmp_path: Path) -> None:
    path = tmp_path / "parts.json"
    states = PartStates(path)
    states.set("edge", PartState.UP)
    states.set("processor", PartState.DOWN)
    states.set("demo", PartState.WAITING)
    found = _parts(path)
    assert found is not None
    assert found["down"] == ["demo", "processor"]
    assert found["parts"] == json.loads(path.read_text())


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "3", '{"edge": 3}', '{"edge": {}}'])
def test_a_file_that_is_missing_or_damaged_is_passed_over(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "parts.json"
    if text is not None:
        path.write_text(text)
    assert _parts(path) is None


def test_without_a_supervisor_there_are_no_parts() -> None:
    assert _parts(None) is None
