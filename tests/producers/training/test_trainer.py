from pathlib import Path

import joblib
import pytest

from producers.errors import WorkStopped
from producers.settings import TrainerSettings
from producers.training.model_files import model_path
from producers.training.trainer import Task
from producers.training.training_process import TrainingProcess
from schemas.events import TrainingCommand
from tests.support.commands import MemoryCommand


def task_of(
    received: MemoryCommand,
    folder: Path,
    *,
    meter_type: str = "gas",
    attempt: int = 1,
    lost: int = 0,
) -> Task:
    command = TrainingCommand(task_id="T", meter_id="m", meter_type=meter_type, event_time_us=0)
    settings = TrainerSettings(models_dir=folder)
    return Task(received.publish, command, attempt, settings, lost)


def test_a_task_reports_every_stage_and_saves_its_model(tmp_path: Path) -> None:
    received = MemoryCommand()
    task = task_of(received, tmp_path)
    task.run()
    stages = [event.task.stage for event in received.events]
    assert list(dict.fromkeys(stages)) == [
        "FETCHING_DATA",
        "TRAINING_MODEL",
        "SAVING_MODEL",
        "SUCCESS",
    ]
    progress = [event.progress for event in received.events]
    assert progress == sorted(progress)
    last = received.events[-1]
    assert (last.status, last.progress, last.ends) == ("completed", 100.0, True)
    path = model_path(tmp_path, task.command)
    shown = path.relative_to(tmp_path).as_posix()
    assert last.task.details["model_path"] == shown
    assert last.message == f"Model trained and saved at {shown}"
    assert str(tmp_path) not in repr(received.events)
    assert joblib.load(path) is not None
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("blocked", ["folder", "model"])
def test_a_failure_names_no_path_of_the_trainers_machine(
    tmp_path: Path, blocked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = MemoryCommand()
    task = task_of(received, tmp_path / "models")
    path = model_path(tmp_path / "models", task.command)
    if blocked == "folder":
        path.parent.parent.mkdir()
        path.parent.touch()
    else:

        def refuse(_: object, file: Path) -> None:
            raise ValueError(f"{file} cannot be written")

        monkeypatch.setattr(TrainingProcess, "save", refuse)
    task.run()
    last = received.events[-1]
    assert last.task.stage == "FAILURE"
    assert last.task.error.startswith("the training broke: ")
    assert str(tmp_path) not in repr(last)


def test_a_task_that_cannot_be_trained_fails_and_says_why(tmp_path: Path) -> None:
    received = MemoryCommand()
    task_of(received, tmp_path, meter_type="steam").run()
    last = received.events[-1]
    assert (last.status, last.task.stage, last.ends) == ("failed", "FAILURE", True)
    assert "'steam' is not a meter type" in last.task.error
    assert last.task.error_details == "UnknownMeter"


def test_a_task_that_lost_three_trainers_is_given_up(tmp_path: Path) -> None:
    received = MemoryCommand()
    task_of(received, tmp_path, attempt=4, lost=3).run()
    (only,) = received.events
    assert only.task.error == "given up: 3 trainers were lost on it; ask for it again"


def test_a_task_of_trainers_that_were_asked_to_stop_goes_on(tmp_path: Path) -> None:
    received = MemoryCommand()
    task_of(received, tmp_path, attempt=4, lost=2).run()
    assert received.events[-1].status == "completed"


def test_a_task_that_another_trainer_has_reports_nothing_more(tmp_path: Path) -> None:
    received = MemoryCommand(events_max=2)
    with pytest.raises(WorkStopped):
        task_of(received, tmp_path).run()
    assert len(received.events) == 2
