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
    assert reporter.calls[-1][4]["final_accuracy"] == accuracy  # type: ignore[index]


def test_equal_seeds_give_equal_runs() -> None:
    first, second = (train(Calls().blocking, "run", epochs=1, seed=7) for _ in range(2))
    assert first == second
