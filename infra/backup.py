"""Backups of a stopped system: the embedded broker's log, the key of its tokens, and its models.

A backup is one tar file, compressed by gzip. Its first member is `manifest.json`, with the version
of this software, the id of the cluster, and the size and SHA-256 of each file; the files follow.
The cluster keeps its id and its topics theirs, so the cursors of clients stay valid.

A restore writes into a folder beside, compares each file with the manifest, and moves the folders
into place when all are right. Nothing but the files of the manifest is taken out of a backup.
"""

import json
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from infra.data_dir import RESTORING, locked
from infra.errors import BackupRefused
from kafka_io.software import software_version
from schemas.instants import to_rfc3339

FOLDERS = ("models", "issuer", "kafka")
"""The folders of a data directory that are backed up; the log is moved into place last."""

_FOLDER_PARTS = tuple((folder,) for folder in FOLDERS)
_MANIFEST = "manifest.json"
_FORMAT = "tapewire-backup-1"
_META = "kafka/log/meta.properties"
_PIECE_BYTES = 1 << 20
_MANIFEST_BYTES_MAX = 64 << 20
_ROOM_BYTES = 64 << 20

Report = Callable[[int, int], None]
"""Receives the number of bytes that are done, and the total."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of a backup."""

    software: str
    """The version that made the backup; empty if it is unknown."""
    cluster_id: str
    """The id of the broker's cluster."""
    made_at: str
    """An RFC 3339 time."""
    files: Mapping[str, tuple[int, str]]
    """The size and the SHA-256 of each file, by its path below the data directory."""

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(size for size, _ in self.files.values())


def back_up(data_dir: Path, target: Path, report: Report = lambda _done, _all: None) -> Manifest:
    """Write a backup of the system of a data directory, which must be stopped.

    Args:
        data_dir: the directory.
        target: the file to write, which must not exist.
        report: takes the progress.

    Raises:
        BackupRefused: there is no log, the file exists or cannot be written, or the directory has
            a symbolic link: what it points to would be missing.
        DirectoryInUse: a system runs on the directory.
        DirectoryNotOurs: the directory has files of others.
    """
    if not (data_dir / _META).is_file():
        raise BackupRefused(
            f"{data_dir.resolve()} has no log of an embedded broker; name the directory of the "
            "system by --data-dir. A Kafka of your own is backed up by its own means"
        )
    if target.exists():
        raise BackupRefused(f"{target} exists; name a new file")
    draft = target.with_name(f"{target.name}.part")
    with locked(data_dir):
        try:
            manifest = _described(data_dir)
            draft.unlink(missing_ok=True)  # of a backup that was killed
            with (
                _private(draft) as file,
                tarfile.open(mode="w:gz", fileobj=file, compresslevel=1) as archive,
            ):
                _add_manifest(archive, manifest)
                done = 0
                for name, (size, _) in manifest.files.items():
                    archive.add(data_dir / name, name, recursive=False)
                    done += size
                    report(done, manifest.size_bytes)
            draft.replace(target)
        except OSError as error:
            raise BackupRefused(f"{target} cannot be written: {error}") from error
        finally:
            draft.unlink(missing_ok=True)
    return manifest


def restore(source: Path, data_dir: Path, report: Report = lambda _done, _all: None) -> Manifest:
    """Restore a backup into a data directory that has no log.

    Args:
        source: the backup.
        data_dir: the directory; made if it does not exist.
        report: takes the progress.

    Raises:
        BackupRefused: the file is no backup, or damaged, or the directory has a log; nothing was
            changed.
        DirectoryInUse: a system runs on the directory.
        DirectoryNotOurs: the directory has files of others.
    """
    with _damage_named(source), _opened(source) as archive:
        members = iter(archive)
        manifest = _manifest_of(source, archive, next(members, None))
        for folder in FOLDERS:
            if (data_dir / folder).exists() and folder in _folders_of(manifest):
                raise BackupRefused(
                    f"{data_dir.resolve()} has the folder {folder} already; restore into a new "
                    "directory, or remove what it has by `tapewire reset`"
                )
        with locked(data_dir):
            draft = data_dir / RESTORING
            try:
                shutil.rmtree(draft, ignore_errors=True)  # of a restore that was killed
                free = shutil.disk_usage(data_dir).free
                if free < manifest.size_bytes + _ROOM_BYTES:
                    raise BackupRefused(
                        f"the backup has {manifest.size_bytes / 1e6:,.0f} MB, and "
                        f"{free / 1e6:,.0f} MB are free for {data_dir.resolve()}"
                    )
                _extract(source, archive, members, manifest, draft, report)
                for folder in FOLDERS:
                    if (draft / folder).exists():
                        (draft / folder).rename(data_dir / folder)
            except OSError as error:
                raise BackupRefused(f"{source} cannot be restored: {error}") from error
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return manifest


@contextmanager
def _damage_named(source: Path) -> Generator[None]:
    """Turn errors of a damaged archive into `BackupRefused`."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BackupRefused(f"{source} is damaged: {error}") from error


def _opened(source: Path) -> tarfile.TarFile:
    if not source.exists():
        raise BackupRefused(f"there is no {source}; name a file that `tapewire backup` has made")
    try:
        return tarfile.open(source, "r|gz")  # the caller closes it
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise BackupRefused(f"{source} is no backup of Tapewire: {error}") from error


def _described(data_dir: Path) -> Manifest:
    files = {}
    for folder in FOLDERS:
        for path in sorted((data_dir / folder).rglob("*")):
            if path.is_symlink():
                raise BackupRefused(
                    f"{path} is a symbolic link, and what it points to would not be in the backup; "
                    "move it to this place, or mount its file system here"
                )
            if path.is_file():
                name = path.relative_to(data_dir).as_posix()
                files[name] = (path.stat().st_size, _digest(path))
    return Manifest(
        software_version(),
        _cluster_id((data_dir / _META).read_text(encoding="utf-8")),
        to_rfc3339(time.time_ns() // 1_000),
        files,
    )


def _private(path: Path) -> IO[bytes]:
    """Return a new file for its owner alone, to be written."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _cluster_id(properties: str) -> str:
    lines = [line for line in properties.splitlines() if line.startswith("cluster.id=")]
    return lines[0].removeprefix("cluster.id=") if lines else ""


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _add_manifest(archive: tarfile.TarFile, manifest: Manifest) -> None:
    content = json.dumps({"format": _FORMAT, **asdict(manifest)}, indent=1).encode()
    member = tarfile.TarInfo(_MANIFEST)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, BytesIO(content))


def _manifest_of(
    source: Path, archive: tarfile.TarFile, member: tarfile.TarInfo | None
) -> Manifest:
    """Return the manifest, whose paths lie in the folders of a backup."""
    is_there = member is not None and member.name == _MANIFEST and member.isfile()
    if not is_there or member is None or member.size > _MANIFEST_BYTES_MAX:
        raise BackupRefused(f"{source} is no backup of Tapewire: it has no {_MANIFEST} in front")
    try:
        content: dict[str, Any] = json.loads(_file_of(archive, member).read())
        if content.pop("format") != _FORMAT:
            raise BackupRefused(
                f"{source} is a backup of another format; restore it by the version that made it"
            )
        files = {str(name): (int(size), str(sha)) for name, (size, sha) in content["files"].items()}
        software, cluster_id = str(content["software"]), str(content["cluster_id"])
        manifest = Manifest(software, cluster_id, str(content["made_at"]), files)
    except (
        *(ValueError, TypeError, KeyError, AttributeError),
        *(OverflowError, RecursionError),
    ) as error:
        raise BackupRefused(f"the manifest of {source} is damaged: {error!r}") from error
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.parts[:1] not in _FOLDER_PARTS:
            raise BackupRefused(f"{source} names a file outside of a backup: {name!r}")
    if _META not in files:
        raise BackupRefused(f"{source} has no log of a broker")
    return manifest


def _folders_of(manifest: Manifest) -> set[str]:
    return {PurePosixPath(name).parts[0] for name in manifest.files}


def _extract(
    source: Path,
    archive: tarfile.TarFile,
    members: Iterator[tarfile.TarInfo],
    manifest: Manifest,
    draft: Path,
    report: Report,
) -> None:
    left = dict(manifest.files)
    done = 0
    for member in members:
        size, digest = left.pop(member.name, (-1, ""))
        if not member.isfile() or member.size != size:
            raise BackupRefused(f"{source} is damaged: {member.name!r} is not as its manifest says")
        path = draft / member.name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _copy(_file_of(archive, member), path)
        if _digest(path) != digest:
            raise BackupRefused(
                f"{source} is damaged: the SHA-256 of {member.name!r} is another one"
            )
        done += size
        report(done, manifest.size_bytes)
    if left:
        raise BackupRefused(f"{source} is not whole: {len(left)} files are missing")


def _copy(content: IO[bytes], path: Path) -> None:
    with _private(path) as file:
        shutil.copyfileobj(content, file, _PIECE_BYTES)


def _file_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None  # it is a regular file
    return file
