"""`python -m infra`, which `make` runs before any package is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra import __main__ as command
from infra.errors import DownloadFailed

ROOT = Path(__file__).parents[2]


def test_it_needs_no_package() -> None:
    program = "import infra.__main__, sys; print([name for name in sys.modules if 'site-p' in str("
    program += "getattr(sys.modules[name], '__file__', ''))])"
    done = subprocess.run(
        (sys.executable, "-S", "-c", program), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise DownloadFailed("no network")

    monkeypatch.setattr(command, "fetch", fail)
    with pytest.raises(SystemExit, match="tapewire: no network"):
        command.main()
