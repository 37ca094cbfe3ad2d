from pathlib import Path

import pytest

from cli.console import print_line, print_lines, reasons, run, settings_of
from cli.errors import NoHistory
from infra.errors import KafkaUnreachable
from stream_processors.settings import ProcessorSettings


def test_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("a")
    print_lines(["b", "c"])
    assert capsys.readouterr().out == "a\nb\nc\n"


@pytest.mark.parametrize("error", [NoHistory("no returns of p"), KafkaUnreachable("no Kafka")])
def test_a_failure_exits_with_its_reason(error: Exception) -> None:
    async def failing() -> None:
        raise error

    with pytest.raises(SystemExit) as exited:
        run(failing())
    assert exited.value.code == f"tapewire: {error}"


def test_an_invalid_setting_exits_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWIRE_RISK_WINDOW", "0")
    with (
        pytest.raises(SystemExit, match="a setting is invalid: TAPEWIRE_RISK_WINDOW is 0; it"),
        reasons(),
    ):
        ProcessorSettings()


def test_an_unforeseen_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), reasons():
        raise ZeroDivisionError


def test_the_data_folder_of_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWIRE_DATA_DIR", "/from/environment")
    assert settings_of(None).data_dir == Path("/from/environment")
    assert settings_of(Path("/given")).data_dir == Path("/given")
