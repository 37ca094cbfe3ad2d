"""The server itself; tests/infra/test_forks.py has what it forks."""

import gc
import sys
from pathlib import Path

import pytest

from infra import fork_server


def test_modules_are_found_as_by_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the working directory, in PYTHONPATH, then where the command finds them."""
    monkeypatch.setattr(sys, "path", ["/bin/of/the/command", "/lib", "/added"])
    fork_server._set_path("/added:/more")
    assert sys.path == [str(Path.cwd()), "/added", "/more", "/lib"]


def test_a_part_runs_as_a_module_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some_part.py").write_text("import sys; print(__name__, sys.argv[1:])")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", [])
    fork_server.ForkedPart("some_part", ["--speed", "2"]).run()
    assert capsys.readouterr().out == "__main__ ['--speed', '2']\n"


def test_no_error_handler_takes_a_part_for_an_error() -> None:
    assert not issubclass(fork_server.ForkedPart, Exception)


def test_garbage_is_not_searched_for_while_modules_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_shared.py").write_text("import gc; IS_ENABLED = gc.isenabled()")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(gc, "freeze", lambda: None)
    fork_server._import(["some_shared"])
    assert not sys.modules.pop("some_shared").IS_ENABLED
    assert gc.isenabled()
