"""The example's callbacks, called as Keras and Lightning call them."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from producers import Unsent
from tests.support.reporter import MemoryReporter

PATH = Path(__file__).parents[2] / "examples" / "11-training-callbacks" / "callbacks.py"


class Calls(MemoryReporter):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def send_training_progress(self, *arguments: Any) -> None:
        self.calls.append(arguments)


@pytest.fixture(scope="module")
def callbacks() -> Any:
    spec = importlib.util.spec_from_file_location("callbacks", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_keras_calls_are_reported(callbacks: Any) -> None:
    reporter = Calls()
    report = callbacks.KerasReport("run", reporter)
    report.params = {"epochs": 2}
    report.on_train_begin()
    for epoch in range(2):
        report.on_epoch_end(epoch, {"loss": 0.5 - epoch / 10})
    report.on_train_end()
    assert [call[1:3] for call in reporter.calls] == [
        (0.0, "started"),
        (50.0, "running"),
        (100.0, "running"),
        (100.0, "completed"),
    ]
    assert reporter.calls[1][4] == {"loss": 0.5}


def test_lightnings_calls_are_reported_and_an_error_ends_the_run_as_failed(callbacks: Any) -> None:
    reporter = Calls()
    report = callbacks.LightningReport("run", reporter)
    trainer = SimpleNamespace(callback_metrics={"loss": 0.25}, current_epoch=0, max_epochs=4)
    report.on_fit_start(trainer, None)
    report.on_train_epoch_end(trainer, None)
    report.on_exception(trainer, None, MemoryError("cuda"))
    report.on_fit_end(trainer, None)
    assert [call[1:4] for call in reporter.calls] == [
        (0.0, "started", "training begins"),
        (25.0, "running", "epoch 1 of 4"),
        (0.0, "failed", "MemoryError('cuda')"),
    ]


def test_a_training_goes_on_while_kafka_is_away(callbacks: Any) -> None:
    class Away(MemoryReporter):
        def send_training_progress(self, *_: Any) -> None:
            raise Unsent("no broker", 1)

    with callbacks.TrainingReport("run", Away()) as report:
        report.epoch(1, 1, {})
