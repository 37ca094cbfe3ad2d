"""`python -m infra`, which `make` runs at the end of the installation."""

import pytest

from infra import __main__ as command
from infra.errors import DownloadFailed


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DownloadFailed("no network")

    monkeypatch.setattr(command, "fetch", fail)
    with pytest.raises(SystemExit, match="tapewire: no network"):
        command.main()


def test_it_downloads_from_the_repository_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    urls: list[str | None] = []
    monkeypatch.setenv("TAPEWIRE_MAVEN_URL", "http://maven.example")
    monkeypatch.setattr(command, "fetch", lambda _, url: urls.append(url))
    command.main()
    assert urls == ["http://maven.example"]
