"""Callbacks that report a training: for Keras, for Lightning, and for a loop of your own.

Copy this file into your project. None of them stops a training because Kafka is away: the report is
logged and left out.
"""

import logging
from collections.abc import Mapping
from typing import Any, Self

try:
    from tapewire.producers import BlockingBroadcaster, Unsent
except ModuleNotFoundError:  # in a checkout of Tapewire
    from producers import BlockingBroadcaster, Unsent

try:
    from keras.callbacks import Callback as KerasCallback
except ModuleNotFoundError:
    KerasCallback = object

try:
    from lightning.pytorch.callbacks import Callback as LightningCallback
except ModuleNotFoundError:
    LightningCallback = object

logger = logging.getLogger(__name__)


class TrainingReport:
    """Reports one training; use it in `with`, and an error ends the run as failed."""

    def __init__(self, run_id: str, reporter: BlockingBroadcaster) -> None:
        self.run_id = run_id
        self._reporter = reporter
        self._ended = False

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.end(error)

    def begin(self) -> None:
        """Report the start."""
        self.send(0.0, "started", "training begins")

    def epoch(self, number: int, total: int, metrics: Mapping[str, Any]) -> None:
        """Report the end of an epoch, counted from 1, with its metrics."""
        numbers = {name: float(value) for name, value in metrics.items()}
        message = f"epoch {number} of {total}"
        self.send(100.0 * number / total, "running", message, numbers)

    def end(self, error: BaseException | None = None) -> None:
        """Report the end, once."""
        if not self._ended:
            self._ended = True
            status = ("completed", "done") if error is None else ("failed", repr(error))
            self.send(100.0 if error is None else 0.0, *status)

    def send(
        self, progress: float, status: str, message: str, metrics: dict[str, float] | None = None
    ) -> None:
        """Send one report, if Kafka takes it."""
        try:
            self._reporter.send_training_progress(
                self.run_id, progress, status, message, metrics or {}
            )
        except Unsent as error:
            logger.warning("a report of %s is left out: %s", self.run_id, error)


class KerasReport(KerasCallback):
    """`model.fit(..., callbacks=[KerasReport("run-7", reporter)])`."""

    def __init__(self, run_id: str, reporter: BlockingBroadcaster) -> None:
        super().__init__()
        self._report = TrainingReport(run_id, reporter)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._report.begin()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._report.epoch(epoch + 1, self.params["epochs"], logs or {})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._report.end()


class LightningReport(LightningCallback):
    """`Trainer(callbacks=[LightningReport("run-7", reporter)])`."""

    def __init__(self, run_id: str, reporter: BlockingBroadcaster) -> None:
        super().__init__()
        self._report = TrainingReport(run_id, reporter)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self._report.begin()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        metrics = trainer.callback_metrics
        self._report.epoch(trainer.current_epoch + 1, trainer.max_epochs, metrics)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._report.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._report.end(exception)
