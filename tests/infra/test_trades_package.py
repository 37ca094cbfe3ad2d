import pytest

from infra import trades_package
from infra.errors import DownloadFailed


def test_the_package_is_the_locked_one() -> None:
    jar = trades_package.trades_jar()
    assert jar.name == "ta4j-examples-0.18.jar"
    assert jar.read_bytes()[:2] == b"PK"


def test_another_package_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trades_package, "_SHA256", "0" * 64)
    with pytest.raises(DownloadFailed, match="is not the locked package: its SHA-256 is"):
        trades_package.trades_jar()


def test_a_package_that_cannot_be_downloaded_is_an_error_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trades_package, "_PACKAGE", ("org.ta4j", "no-such-package", "0.18"))
    with pytest.raises(DownloadFailed, match="no-such-package could not be fetched"):
        trades_package.trades_jar()
