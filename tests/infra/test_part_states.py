import json
from pathlib import Path

import pytest

from infra.part_states import PartState, PartStates


def test_the_file_says_what_each_part_does_and_since_when(tmp_path: Path) -> None:
    path = tmp_path / "parts.json"
    states = PartStates(path)
    states.set("processor", PartState.STARTING)
    states.set("edge", PartState.UP)
    states.set("processor", PartState.DOWN)
    found = json.loads(path.read_text())
    assert {name: part["state"] for name, part in found.items()} == {
        "processor": "down",
        "edge": "up",
    }
    assert found["edge"]["since"].endswith("Z")
    assert states.names(PartState.DOWN, PartState.WAITING) == ["processor"]
    states.close()
    assert list(tmp_path.iterdir()) == []


def test_the_file_says_how_a_part_has_failed_and_quotes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "parts.json"
    states = PartStates(path)
    states.set("processor", PartState.DOWN, "died with SIGKILL")
    states.set("trainer", PartState.DOWN, "could not be started: no /home/alice/secret")
    found = json.loads(path.read_text())
    assert {name: part["failure"] for name, part in found.items()} == {
        "processor": "died with SIGKILL",
        "trainer": "could not be started",
    }
    states.set("processor", PartState.UP)
    assert "failure" not in json.loads(path.read_text())["processor"]


def test_a_state_that_stays_keeps_its_time(tmp_path: Path) -> None:
    states = PartStates(tmp_path / "parts.json")
    states.set("edge", PartState.UP)
    before = (tmp_path / "parts.json").stat().st_mtime_ns
    states.set("edge", PartState.UP)
    assert (tmp_path / "parts.json").stat().st_mtime_ns == before


def test_a_folder_that_takes_no_file_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states = PartStates(tmp_path / "none" / "parts.json")
    states.set("edge", PartState.UP)
    assert "the states of parts cannot be written" in caplog.text
    states.close()
