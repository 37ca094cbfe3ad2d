import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from infra.data_dir import (
    MARK,
    RUNNING,
    RunningSystem,
    announced,
    find_running,
    locked,
    reset,
    size_bytes,
    this_process,
)
from infra.errors import DirectoryInUse, DirectoryNotOurs


def system() -> RunningSystem:
    pid, process_started_s = this_process()
    return RunningSystem(
        url="http://localhost:8000",
        bootstrap_servers="localhost:9092",
        cluster_id="c",
        topic_prefix="",
        var_limits="",
        pid=pid,
        process_started_s=process_started_s,
    )


def test_a_data_directory_serves_one_system(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with locked(folder):
        with pytest.raises(DirectoryInUse, match=f"process {os.getpid()} runs a system on"):
            reset(folder)
        assert folder.exists()
    assert reset(folder)
    assert not folder.exists()
    assert not reset(folder)


def test_a_running_system_is_found_until_it_ends(tmp_path: Path) -> None:
    assert find_running(tmp_path) is None
    with announced(tmp_path, system()):
        assert find_running(tmp_path) == system()
    assert find_running(tmp_path) is None


def test_a_system_that_was_killed_is_not_found(tmp_path: Path) -> None:
    for killed in (
        replace(system(), process_started_s=1.0),  # another process has its id now
        replace(system(), pid=1 << 30),
    ):
        with announced(tmp_path, killed):
            assert find_running(tmp_path) is None
    (tmp_path / RUNNING).write_text('{"url": 1}')
    assert find_running(tmp_path) is None


def test_reset_removes_only_what_is_tapewires(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / "kafka" / "log").mkdir(parents=True)
    (tmp_path / "thesis.txt").write_text("mine")
    assert reset(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    models, folder = tmp_path / "elsewhere", tmp_path / "data"
    models.mkdir()
    with locked(folder):
        (folder / "models").symlink_to(models)
    assert reset(folder)
    assert models.exists()


def test_a_directory_of_others_is_neither_used_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with pytest.raises(DirectoryNotOurs, match=f"has no file {MARK}.*nothing was removed"):
        reset(tmp_path)
    with (
        pytest.raises(DirectoryNotOurs, match="has files of others, such as logs"),
        locked(tmp_path),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_a_directory_of_the_first_version_is_marked_at_its_next_start(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1")
    (tmp_path / "kafka").mkdir()
    (tmp_path / "issuer").mkdir()
    (tmp_path / "issuer" / "private.pem").write_text("a key")
    with locked(tmp_path):
        assert (tmp_path / MARK).exists()
    assert reset(tmp_path)


def test_the_size_is_that_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    assert size_bytes(tmp_path) >= 1 << 20


def test_only_its_owner_can_look_into_a_data_directory(tmp_path: Path) -> None:
    new, older = tmp_path / "new", tmp_path / "older"
    older.mkdir(mode=0o755)
    for folder in (new, older):
        with locked(folder):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def foreign(folder: Path) -> dict[Path, str]:
    """Fill a folder with files of others that have our names; return them."""
    for name in ("kafka", "logs", "issuer", "models"):
        (folder / name).mkdir(parents=True)
        (folder / name / "precious.txt").write_text("precious")
    (folder / "lock").write_text("precious")
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


def holds(files: dict[Path, str]) -> bool:
    return all(path.read_text() == text for path, text in files.items())


@pytest.mark.parametrize("mark", [None, "", "their own mark", "This directory holds the data of"])
def test_a_foreign_folder_with_our_names_is_neither_used_nor_removed(
    tmp_path: Path, mark: str | None
) -> None:
    files = foreign(tmp_path)
    if mark is not None:
        (tmp_path / MARK).write_text(mark)
    with pytest.raises(DirectoryNotOurs, match="nothing was removed"):
        reset(tmp_path)
    with pytest.raises(DirectoryNotOurs, match="has files of others"), locked(tmp_path):
        pass
    assert holds(files)
    assert (tmp_path / MARK).exists() == (mark is not None)


def test_a_reset_follows_no_link_out_of_the_directory(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "data"
    outside.mkdir()
    files = foreign(outside)
    with locked(folder):
        (folder / "models").symlink_to(outside)
        (folder / "kafka").mkdir()
        (folder / "kafka" / "log").symlink_to(outside, target_is_directory=True)
        (folder / "logs").symlink_to(outside / "logs" / "precious.txt")
        (folder / "ours.txt").write_text("of the user")
    assert reset(folder)
    assert holds(files)
    assert [path.name for path in folder.iterdir()] == ["ours.txt"]


def test_a_link_to_a_marked_directory_elsewhere_removes_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with locked(folder):
        pass
    (tmp_path / "beside.txt").write_text("precious")
    (tmp_path / "link").symlink_to(folder)
    assert reset(tmp_path / "link")
    assert (tmp_path / "beside.txt").read_text() == "precious"
