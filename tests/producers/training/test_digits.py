import pytest

from producers.training.digits import train
from tests.support.reporter import MemoryReporter


class Calls(MemoryReporter):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[object, ...]] = []

    def send_training_progress(self, *arguments: object) -> None:
        self.calls.append(arguments)


def test_a_run_reports_each_epoch_and_learns() -> None:
    reporter, pauses = Calls(), []
    accuracy = train(reporter.blocking, "run", epochs=4, pause=lambda: pauses.append(1))
    statuses = [call[2] for call in reporter.calls]
    assert statuses == ["started", *["running"] * 4, "completed"]
    assert [call[1] for call in reporter.calls] == [0.0, 25.0, 50.0, 75.0, 100.0, 100.0]
    assert len(pauses) == 4
    assert accuracy > 0.5  # of ten classes
    assert all("of at most 4" in str(call[3]) for call in reporter.calls[1:-1])
    assert reporter.calls[-1][4]["final_accuracy"] == accuracy  # type: ignore[index]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_stops_when_there_is_no_more_progress_and_beats_the_baseline(seed: int) -> None:
    reporter = Calls()
    accuracy = train(reporter.blocking, "run", seed=seed)
    *epochs, end = (call for call in reporter.calls if call[2] != "started")
    losses = [call[4]["loss"] for call in epochs]  # type: ignore[index]
    best = end[4]["best_epoch"]  # type: ignore[index]
    assert len(epochs) == best + 3 < 40
    assert losses[best - 1] == pytest.approx(min(losses), abs=0.01)
    assert accuracy > end[4]["baseline_accuracy"] + 0.03  # type: ignore[index]
    assert "by the nearest mean image" in str(end[3])


def test_equal_seeds_give_equal_runs() -> None:
    first, second = (train(Calls().blocking, "run", epochs=1, seed=7) for _ in range(2))
    assert first == second
