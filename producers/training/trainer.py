"""A trainer: runs training commands, one at a time, and reports their progress.

Several trainers share the commands. If one is lost, another runs its task again as the next
attempt. A task ends once: a trainer skips an ended task, and one that has lost its task cannot
write.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from kafka_io.clock import now_us
from kafka_io.command_group import CommandGroup, ReceivedCommand, next_attempt
from kafka_io.errors import ProducerError, WorkStopped
from kafka_io.settings import ProducerSettings
from producers.settings import TrainerSettings
from producers.training.meters import read_meter
from producers.training.model_files import model_path, models_folder
from producers.training.training_process import TrainingProcess, training_process
from schemas.events import (
    Record,
    RunStatus,
    TaskStage,
    TaskStep,
    TrainingCommand,
    TrainingProgress,
)
from schemas.instants import to_rfc3339
from schemas.topics import TRAINING_COMMANDS, TRAINING_EVENTS

logger = logging.getLogger(__name__)

_ATTEMPTS_MAX = 3
_FETCHED, _TRAINED, _SAVED = 10.0, 90.0, 95.0


async def run(settings: ProducerSettings, trainer: TrainerSettings, stop: asyncio.Event) -> None:
    """Run commands until `stop` is set."""

    def work(received: ReceivedCommand) -> None:
        command = received.command
        assert isinstance(command, TrainingCommand)
        attempt = _attempt_after(received.events)
        lost, tenant = received.lost_before(attempt), received.tenant
        Task(received.publish, command, attempt, trainer, lost, tenant).run()

    await CommandGroup(TRAINING_COMMANDS, TRAINING_EVENTS, settings).run(work, stop)


def _attempt_after(events: Iterable[Record]) -> int:
    """Return the number of the next attempt."""
    steps = [event.task for event in events if isinstance(event, TrainingProgress) and event.task]
    return next_attempt(step.attempt for step in steps if step.stage != TaskStage.PENDING)


@dataclass(frozen=True)
class Task:
    """One attempt at a task."""

    publish: Callable[[TrainingProgress], None]
    command: TrainingCommand
    attempt: int
    settings: TrainerSettings
    lost: int = 0
    """How many earlier attempts ended with the loss of their trainer."""
    tenant: str | None = None
    """The task's tenant; None for none."""

    def run(self) -> None:
        """Fetch, train, save, and report each step.

        Raises:
            WorkStopped: another trainer has the task, or this one stops; it reports nothing more.
        """
        try:
            self._run()
        except WorkStopped:
            raise
        except ProducerError as error:
            self._fail(str(error), type(error).__name__)
        except Exception as error:
            logger.exception("task %s failed", self.command.task_id)
            reason = self._without_paths(error)
            self._fail(f"the training broke: {reason}", f"{type(error).__name__}: {reason}")

    def _run(self) -> None:
        command = self.command
        if self.lost >= _ATTEMPTS_MAX:
            self._fail(
                f"given up: {_ATTEMPTS_MAX} trainers were lost on it; ask for it again",
                f"attempt {self.attempt}",
            )
            return
        self._report(
            TaskStage.FETCHING_DATA, 1.0, f"Reading {command.meter_type} meter {command.meter_id}"
        )
        began = time.monotonic()
        consumption = read_meter(command.meter_id, command.meter_type)
        fetched_s = time.monotonic() - began
        self._report(
            TaskStage.TRAINING_MODEL, _FETCHED, f"Training on {len(consumption.kwh):,} hours"
        )
        began = time.monotonic()
        folder = models_folder(self.settings.models_dir, self.tenant)
        path = model_path(folder, command)
        unfinished = path.with_suffix(f".{command.task_id}.{self.attempt}")
        with training_process(command.meter_id, command.meter_type) as process:
            metrics = self._train(process)
            trained_s = time.monotonic() - began
            self._report(TaskStage.SAVING_MODEL, _SAVED, "Saving the model", metrics)
            path.parent.mkdir(parents=True, exist_ok=True)
            process.save(unfinished)
        unfinished.replace(path)
        logger.info("task %s has saved its model at %s", command.task_id, path)
        shown = path.relative_to(folder).as_posix()
        done = self._event(TaskStage.SUCCESS, 100.0, f"Model trained and saved at {shown}", metrics)
        details: dict[str, int | float | str] = {
            "meter_id": command.meter_id,
            "meter_type": command.meter_type,
            "data_points": len(consumption.kwh),
            "model_path": shown,
            "training_completed": to_rfc3339(done.event_time_us),
            "data_fetch_time_seconds": round(fetched_s, 3),
            "training_time_seconds": round(trained_s, 3),
        }
        self._publish(done, details=details)

    def _train(self, process: TrainingProcess) -> dict[str, float]:
        """Train the model, report each step, and return the metrics of the best one."""
        metrics: dict[str, float] = {}
        for step in process.steps():
            metrics = step.metrics
            self._report(
                TaskStage.TRAINING_MODEL,
                _FETCHED + (_TRAINED - _FETCHED) * step.part,
                f"{metrics['trees']:.0f} trees; {metrics['mean_absolute_error']:.4f} kWh off, "
                f"the week before {metrics['mean_absolute_error_of_week_before']:.4f}",
                metrics,
                remaining_s=step.remaining_s,
            )
            time.sleep(self.settings.training_step_pause_s)
        return metrics

    def _report(
        self,
        stage: TaskStage,
        progress: float,
        message: str,
        metrics: dict[str, float] | None = None,
        *,
        remaining_s: float | None = None,
    ) -> None:
        event = self._event(stage, progress, message, metrics or {})
        done_us = None
        if remaining_s is not None:
            done_us = event.event_time_us + int(remaining_s * 1_000_000)
        self._publish(event, estimated_completion_us=done_us)

    def _without_paths(self, error: Exception) -> str:
        """Return an error's message without paths of this machine, which clients must not see."""
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        folder = models_folder(self.settings.models_dir, self.tenant)
        models = self.settings.models_dir
        text = str(error)
        for path in (folder.absolute(), folder, models.absolute(), models):
            text = text.replace(f"{path}/", "")
        return text

    def _fail(self, error: str, details: str) -> None:
        event = self._event(TaskStage.FAILURE, 0.0, error, {})
        self._publish(event, error=error, error_details=details)

    def _event(
        self, stage: TaskStage, progress: float, message: str, metrics: dict[str, float]
    ) -> TrainingProgress:
        return TrainingProgress(
            task_id=self.command.task_id,
            progress=round(progress, 1),
            status=_STATUS_OF.get(stage, RunStatus.RUNNING),
            message=message,
            metrics=metrics,
            event_time_us=now_us(),
            task=TaskStep(stage=stage, attempt=self.attempt),
        )

    def _publish(self, event: TrainingProgress, **step: Any) -> None:
        assert event.task is not None
        event = replace(event, task=replace(event.task, **step))
        self.publish(event)


_STATUS_OF = {
    TaskStage.FETCHING_DATA: RunStatus.STARTED,
    TaskStage.SUCCESS: RunStatus.COMPLETED,
    TaskStage.FAILURE: RunStatus.FAILED,
}
