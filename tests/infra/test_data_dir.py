import os
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
    with locked(tmp_path):
        assert (tmp_path / MARK).exists()
    assert reset(tmp_path)


def test_the_size_is_that_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    assert size_bytes(tmp_path) >= 1 << 20
