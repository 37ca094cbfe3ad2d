"""Backups of a stopped system, and what a restore refuses."""

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from infra.backup import back_up, restore
from infra.data_dir import locked, reset
from infra.errors import BackupRefused, DirectoryInUse, DirectoryNotOurs

META = "kafka/log/meta.properties"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    with locked(folder):
        pass
    for name, content in {
        META: "version=1\ncluster.id=abc\n",
        "kafka/log/t-0/0.log": "records" * 1_000,
        "issuer/private.pem": "a key",
        "logs/edge.log": "lines",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("lock", "tapewire.data")
    }


def test_what_was_backed_up_is_restored(data_dir: Path, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    made = back_up(data_dir, tmp_path / "b.tar.gz", lambda *at: done.append(at))
    assert (made.cluster_id, done[-1]) == ("abc", (made.size_bytes, made.size_bytes))
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o077 == 0
    other = tmp_path / "other"
    assert restore(tmp_path / "b.tar.gz", other) == made
    expected = files(data_dir)
    del expected["logs/edge.log"]
    assert files(other) == expected
    assert (other / "issuer/private.pem").stat().st_mode & 0o077 == 0
    assert reset(other)
    assert not other.exists()


def test_a_running_system_is_not_backed_up(data_dir: Path, tmp_path: Path) -> None:
    with locked(data_dir), pytest.raises(DirectoryInUse, match="stop it"):
        back_up(data_dir, tmp_path / "b.tar.gz")
    assert not (tmp_path / "b.tar.gz").exists()


def test_a_backup_replaces_no_file_and_needs_a_log(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine", encoding="utf-8")
    with pytest.raises(BackupRefused, match="exists; name a new file"):
        back_up(data_dir, tmp_path / "b")
    with pytest.raises(BackupRefused, match="has no log of an embedded broker"):
        back_up(tmp_path / "none", tmp_path / "c")


def test_a_restore_touches_no_folder_with_a_log_or_files_of_others(
    data_dir: Path, tmp_path: Path
) -> None:
    back_up(data_dir, tmp_path / "b")
    before = files(data_dir)
    with pytest.raises(BackupRefused, match="has the folder issuer already"):
        restore(tmp_path / "b", data_dir)
    assert files(data_dir) == before
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DirectoryNotOurs, match=r"has files of others, such as thesis.txt"):
        restore(tmp_path / "b", foreign)
    assert set(files(foreign)) == {"thesis.txt"}


def changed(path: Path, target: Path, **changes: Any) -> Path:
    """Write a backup again, with other members or another manifest."""
    with tarfile.open(path) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            content = old.extractfile(member)
            assert content is not None
            data: bytes | None = changes.get(member.name, content.read())
            if data is None:
                continue
            made = tarfile.TarInfo(member.name)
            made.size = len(data)
            new.addfile(made, BytesIO(data))
    return target


def with_manifest(path: Path, target: Path, **changes: Any) -> Path:
    with tarfile.open(path) as old:
        member = old.extractfile("manifest.json")
        assert member is not None
        manifest = json.loads(member.read())
    return changed(path, target, **{"manifest.json": json.dumps(manifest | changes).encode()})


def test_a_damaged_backup_changes_nothing(data_dir: Path, tmp_path: Path) -> None:
    back_up(data_dir, tmp_path / "b")
    whole = (tmp_path / "b").read_bytes()
    log = "kafka/log/t-0/0.log"
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text").write_text("no archive", encoding="utf-8")
    (tmp_path / "empty").write_bytes(b"")
    evil = {"../evil": (1, "0"), META: (1, "0")}
    cases = {
        tmp_path / "cut": "is damaged|is no backup",
        tmp_path / "text": "is no backup of Tapewire",
        tmp_path / "empty": "is no backup of Tapewire",
        tmp_path / "missing": "there is no .*missing; name a file",
        changed(tmp_path / "b", tmp_path / "1", **{log: b"x" * 7_000}): "SHA-256 of .*0.log",
        changed(tmp_path / "b", tmp_path / "2", **{log: b"x"}): "is not as its manifest says",
        changed(tmp_path / "b", tmp_path / "3", **{log: None}): "is not whole: 1 files",
        with_manifest(tmp_path / "b", tmp_path / "4", format="other"): "of another format",
        with_manifest(tmp_path / "b", tmp_path / "5", files=evil): "outside of a backup",
        with_manifest(tmp_path / "b", tmp_path / "6", files={}): "has no log of a broker",
        with_manifest(tmp_path / "b", tmp_path / "7", files=7): "is damaged",
    }
    for path, text in cases.items():
        with pytest.raises(BackupRefused, match=text):
            restore(path, tmp_path / "other")
        other = tmp_path / "other"
        assert not other.exists() or files(other) == {}, path
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", ["kafka/log", "kafka/log/t-0/0.log"])
def test_what_a_link_points_to_is_not_left_out_in_silence(
    data_dir: Path, tmp_path: Path, name: str
) -> None:
    (data_dir / name).rename(tmp_path / "elsewhere")
    (data_dir / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BackupRefused, match=f"{name} is a symbolic link"):
        back_up(data_dir, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_draft_is_written_through_no_link(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "others").write_text("theirs", encoding="utf-8")
    (tmp_path / "b.part").symlink_to(tmp_path / "others")
    back_up(data_dir, tmp_path / "b")
    assert (tmp_path / "others").read_text(encoding="utf-8") == "theirs"
    assert restore(tmp_path / "b", tmp_path / "other").cluster_id == "abc"


@pytest.mark.parametrize(
    "manifest",
    [
        b"[" * 100_000,
        b'{"format": "tapewire-backup-1", "files": {"kafka/log/meta.properties": [1e400, ""]}}',
        *(
            json.dumps(
                {
                    "format": "tapewire-backup-1",
                    "software": "",
                    "cluster_id": "",
                    "made_at": "",
                    "files": {name: (1, ""), META: (1, "")},
                }
            ).encode()
            for name in ("", ".")
        ),
    ],
    ids=["deep", "infinite", "unnamed", "dot"],
)
def test_a_manifest_of_any_content_is_refused_by_a_sentence(
    data_dir: Path, tmp_path: Path, manifest: bytes
) -> None:
    back_up(data_dir, tmp_path / "b")
    odd = changed(tmp_path / "b", tmp_path / "odd", **{"manifest.json": manifest})
    with pytest.raises(BackupRefused, match=r"is damaged|names a file outside"):
        restore(odd, tmp_path / "other")
    assert not (tmp_path / "other").exists()
