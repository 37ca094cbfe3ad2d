"""The data directory of a system on one machine: its mark, its lock, and the system that uses it.

A directory that `tapewire up` made bears a mark, the file `tapewire.data`. Only such a directory is
used again, and `reset` removes only what Tapewire has put into it. Only its owner can look into it.
While a system runs, the file `system.json` says where its edge and its Kafka answer, so that
commands find the system by its data directory.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from infra.errors import DirectoryInUse, DirectoryNotOurs

MARK = "tapewire.data"
RUNNING = "system.json"
PARTS = "parts.json"
"""Has the states of the parts while the system runs."""
TARGETS = "prometheus.json"
"""Says where the parts show their metrics while the system runs."""

RESTORING = "restore.new"
"""The folder of a restore that is not finished, or was killed."""
_LOCK = "lock"
PRIVATE_UMASK = 0o077
"""The umask: other users of the machine may neither read nor change the files of a system."""

_MARK_TEXT = "This directory holds the data of Tapewire; `tapewire reset` removes them.\n"
_DRAFTS = frozenset({RESTORING, "system.new", "parts.new"})
"""Unfinished new versions of files, which a crash may leave behind."""
_ENTRIES = (
    frozenset({MARK, RUNNING, PARTS, TARGETS, _LOCK, "kafka", "logs", "issuer", "models", "faust"})
    | _DRAFTS
)
"""The names that Tapewire puts into a data directory."""


@dataclass(frozen=True, slots=True)
class RunningSystem:
    """A system that `tapewire up` runs on a data directory."""

    url: str
    """The address of its first edge."""
    bootstrap_servers: str
    cluster_id: str
    """The id of its Kafka cluster."""
    topic_prefix: str
    var_limits: str
    """The limits of single portfolios that its processor has."""
    pid: int
    """The process of `tapewire up`."""
    process_started_s: float
    """When that process started, in seconds since 1970; a later process may have its id."""

    @property
    def runs(self) -> bool:
        """Whether the process is still alive."""
        try:
            return psutil.Process(self.pid).create_time() == self.process_started_s
        except (psutil.Error, TypeError, ValueError, OverflowError):
            return False


def this_process() -> tuple[int, float]:
    """Return the id of this process, and when it started in seconds since 1970."""
    return os.getpid(), psutil.Process().create_time()


@contextmanager
def locked(data_dir: Path) -> Generator[None]:
    """Lock a data directory, and create and mark it at first use.

    Raises:
        DirectoryNotOurs: the directory has files of others.
        DirectoryInUse: another process has locked it.
    """
    _refuse_files_of_others(data_dir)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if data_dir.stat().st_mode & PRIVATE_UMASK:  # made by an earlier version, or by the user
        data_dir.chmod(0o700)
    with (data_dir / _LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise DirectoryInUse(
                f"process {lock.read().strip() or 'unknown'} runs a system on {data_dir}; "
                "stop it, or choose another with --data-dir"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        (data_dir / MARK).write_text(_MARK_TEXT, encoding="utf-8")
        yield


@contextmanager
def announced(data_dir: Path, system: RunningSystem) -> Generator[None]:
    """Let commands find a running system, until the block ends."""
    path = data_dir / RUNNING
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(system), indent=2) + "\n", encoding="utf-8")
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_running(data_dir: Path) -> RunningSystem | None:
    """Return the system that runs on a data directory; None if none does."""
    try:
        text = (data_dir / RUNNING).read_text(encoding="utf-8")
        system = RunningSystem(**json.loads(text))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return system if system.runs else None


def reset(data_dir: Path) -> bool:
    """Remove what Tapewire has put into a data directory, and return whether there was one.

    The directory itself is removed if nothing else is in it.

    Raises:
        DirectoryNotOurs: the directory does not bear the mark of Tapewire; nothing was removed.
        DirectoryInUse: a system runs on it.
    """
    if not data_dir.exists():
        return False
    if not _is_marked(data_dir):
        raise DirectoryNotOurs(
            f"{data_dir.resolve()} has no file {MARK}, so Tapewire may not have made it; nothing "
            f"was removed. If it is a data directory of Tapewire 0.1.0, `tapewire up --data-dir "
            f"{data_dir}` marks it"
        )
    with locked(data_dir):
        # The mark goes last: what a crash leaves can be removed by another call.
        for name in sorted(_ENTRIES - {MARK}):
            _remove(data_dir / name)
        _remove(data_dir / MARK)
    with suppress(OSError):  # it has other files
        data_dir.rmdir()
    return True


def size_bytes(data_dir: Path) -> int:
    """Return the bytes that the files of a data directory take on the disk."""
    total = 0
    for path in data_dir.rglob("*"):
        with suppress(OSError):  # the broker may delete it meanwhile
            total += path.lstat().st_blocks * 512
    return total


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_marked(data_dir: Path) -> bool:
    """Return whether a directory bears the mark: a file of this name may be somebody else's."""
    try:
        with (data_dir / MARK).open("rb") as mark:
            return mark.read(len(_MARK_TEXT) + 1) == _MARK_TEXT.encode()
    except OSError:
        return False


def _refuse_files_of_others(data_dir: Path) -> None:
    if not data_dir.exists() or _is_marked(data_dir):
        return
    found = {path.name for path in data_dir.iterdir()}
    # 0.1.0 made no mark, but a key at first; a crash may have left no more than the lock.
    has_key = (data_dir / "issuer" / "private.pem").is_file()
    is_older = _LOCK in found and (has_key or found == {_LOCK})
    others = sorted(found if not is_older else found - _ENTRIES)
    if others:
        raise DirectoryNotOurs(
            f"{data_dir.resolve()} has files of others, such as {others[0]}; choose an empty or "
            "new directory with --data-dir"
        )
