from pathlib import Path

import pytest

from infra.errors import NotInstalled
from infra.installed_files import write_file


def test_a_file_has_its_mode_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "secret"
    write_file(path, "new\n", 0o600)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new\n", 0o600)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    with pytest.raises(NotInstalled, match=r"cannot be written .*name a folder of yours"):
        write_file(tmp_path / "etc" / "secret", "new\n", 0o600)
