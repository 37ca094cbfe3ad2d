"""A process in which one model is trained, so that an idle trainer does not hold scikit-learn.

The process reads the meter and trains a step whenever it is asked for one. It ends with its model
saved, with its trainer, or killed when the task is no longer this trainer's.
"""

import multiprocessing
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from producers.training.meters import read_meter

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """The progress of a training."""

    part: float
    """The completed fraction, up to 1."""
    metrics: dict[str, float]
    """Mean absolute errors on the held-out weeks in kWh, and the trees so far."""
    remaining_s: float
    """The estimated remaining time in seconds."""


class TrainingProcess:
    """The training of one model."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def steps(self) -> Iterator[TrainingStep]:
        """Train, and yield the progress; the process waits until the next step is asked for.

        Raises:
            ProducerError: the model cannot be trained; the message says why.
            RuntimeError: the process has ended.
            Exception: whatever has failed in the process.
        """
        while (step := self._ask(None)) is not None:
            yield step

    def save(self, path: Path) -> None:
        """Write the best model to a file.

        Raises:
            RuntimeError: the process has ended.
            Exception: whatever has failed in the process.
        """
        self._ask(path)

    def _ask(self, request: Path | None) -> Any:
        try:
            self._connection.send(request)
            answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise RuntimeError("the process that trains has ended") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def training_process(meter_id: str, meter_type: str) -> Generator[TrainingProcess]:
    """Start a process that trains a meter's model; it is killed at the end of the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_train, args=(theirs, meter_id, meter_type), daemon=True)
    # Its start unblocks signals, so it must run before they are blocked.
    resource_tracker.ensure_running()
    # A signal to all processes of a trainer must not end this one: the trainer handles it, and
    # decides whether the task goes on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    try:
        yield TrainingProcess(ours)
    finally:
        ours.close()
        process.kill()
        process.join()
        process.close()


def _train(connection: Connection, meter_id: str, meter_type: str) -> None:
    """Train a model in this process, step by step."""
    # Only this process needs them, and they are large.
    import joblib  # noqa: PLC0415  # see above

    from producers.training.forecast import train  # noqa: PLC0415  # see above

    try:
        connection.recv()
        model = None
        for step in train(read_meter(meter_id, meter_type)):
            model = step.model
            connection.send(TrainingStep(step.part, step.metrics, step.remaining_s))
            connection.recv()
        connection.send(None)
        joblib.dump(model, connection.recv())
        connection.send(None)
    except EOFError:  # the trainer is gone
        return
    except Exception as error:  # noqa: BLE001  # the trainer reports it
        connection.send(error)
