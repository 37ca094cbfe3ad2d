"""`python -m infra`, which `make` runs at the end of the installation."""

import pytest

from infra import __main__ as command
from infra.errors import DownloadFailed


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise DownloadFailed("no network")

    monkeypatch.setattr(command, "fetch", fail)
    with pytest.raises(SystemExit, match="tapewire: no network"):
        command.main()
