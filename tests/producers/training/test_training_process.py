import multiprocessing
import signal
from pathlib import Path

import joblib
import psutil
import pytest

from producers.errors import UnknownMeter
from producers.training.training_process import training_process


def test_a_model_is_trained_step_by_step_and_saved(tmp_path: Path) -> None:
    with training_process("m", "gas") as process:
        [child] = multiprocessing.active_children()
        steps = process.steps()
        found = [next(steps)]
        assert child.pid is not None
        # Those who stop a service send its signal to all of its processes.
        psutil.Process(child.pid).send_signal(signal.SIGTERM)
        found += steps
        process.save(tmp_path / "model")
    assert [step.part for step in found] == sorted(step.part for step in found)
    assert (found[-1].part, found[-1].remaining_s) == (1.0, 0.0)
    assert found[-1].metrics["trees"] > 0
    assert joblib.load(tmp_path / "model") is not None
    assert not multiprocessing.active_children()


def test_what_fails_in_the_process_is_raised_here() -> None:
    with (
        training_process("m", "steam") as process,
        pytest.raises(UnknownMeter, match="'steam' is not a meter type"),
    ):
        next(process.steps())


def test_a_process_that_is_killed_is_named() -> None:
    with training_process("m", "gas") as process:
        steps = process.steps()
        next(steps)
        [child] = multiprocessing.active_children()
        child.kill()
        with pytest.raises(RuntimeError, match="the process that trains has ended"):
            next(steps)
