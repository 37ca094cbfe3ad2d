"""An archive of the embedded broker's classes, with which its JVM starts in less CPU time.

The first start records which classes the broker loads, and makes the archive when the system is up.
Later starts map it. The name has a hash of the Java runtime, its options and the jars, so another
runtime or jar makes another archive. A JVM goes on without an archive that is damaged or does not
fit; that one is deleted, and the next start records anew.
"""

import asyncio
import hashlib
import logging
import os
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from infra.fork_server import dying_with

logger = logging.getLogger(__name__)

_LATER_S = 5.0
"""How long after the start an archive is made, which takes some seconds of CPU time once."""
_MOST_NICE = 19


def cache_folder() -> Path:
    """Return the user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapewire"


class ClassArchive:
    """The archive for one Java runtime, with its options, and one class path."""

    def __init__(self, folder: Path, java: Sequence[str], class_path: str, classes: Path) -> None:
        """Describe the archive; nothing is read or written yet.

        Args:
            folder: has the archives; it is made if it is missing.
            java: the program of the runtime, and its options.
            class_path: the jars, with colons between.
            classes: takes the names of the classes that a broker has loaded.
        """
        self._folder = folder
        self._java, self._class_path, self._classes = tuple(java), class_path, classes

    @property
    def path(self) -> Path:
        """The file of the archive."""
        runtime = Path(self._java[0]).parents[1] / "release"
        known = hashlib.sha256(repr((self._java, self._class_path)).encode())
        for file in (runtime, *map(Path, self._class_path.split(":"))):
            with suppress(OSError):
                # A JVM refuses an archive if a jar has another time or size.
                state = file.stat()
                known.update(f"{state.st_mtime_ns} {state.st_size};".encode())
        return self._folder / f"broker-{known.hexdigest()[:16]}.jsa"

    def options(self) -> tuple[str, ...]:
        """Return the options of a JVM that uses the archive, or records what to put into it."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self.path
            if path.exists():
                return f"-XX:SharedArchiveFile={path}", "-XX:+VerifySharedSpaces"
        except OSError:  # such as a home that cannot be written to
            return ()
        return (f"-XX:DumpLoadedClassList={self._classes}",)

    async def keep(self, pid: int) -> None:
        """Make the archive if there is none, and delete one that the broker does not use.

        Args:
            pid: the process of the broker, which has started with `options`.
        """
        try:
            await asyncio.sleep(_LATER_S)
            path = self.path
            if not path.exists():
                await self._make(path)
            elif not _is_mapped(path, pid):
                path.unlink()
        except OSError as error:
            logger.info("the archive of the broker's classes is left as it is: %s", error)
        finally:
            self._classes.unlink(missing_ok=True)

    async def _make(self, path: Path) -> None:
        """Make the archive, as a process that leaves the processors to all others."""
        _end_last_line(self._classes)
        unfinished = path.with_suffix(f".{os.getpid()}.new")
        process = await asyncio.create_subprocess_exec(
            *(*self._java, "-Xshare:dump", f"-XX:SharedClassListFile={self._classes}"),
            *(f"-XX:SharedArchiveFile={unfinished}", "-cp", self._class_path),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,
            preexec_fn=_gently(),
        )
        try:
            if await process.wait() == 0:
                for other in self._folder.glob("broker-*.jsa"):
                    other.unlink()
                unfinished.replace(path)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            unfinished.unlink(missing_ok=True)


def _is_mapped(path: Path, pid: int) -> bool:
    """Return whether a process has mapped a file."""
    return str(path) in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def _end_last_line(path: Path) -> None:
    """Cut what follows the last whole line of a file that is being written."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")


def _gently() -> Callable[[], None]:
    """Return what the process does first: it gives way, and dies with this one."""
    die = dying_with(os.getpid()) if sys.platform == "linux" else None

    def prepare() -> None:
        os.nice(_MOST_NICE)
        if die is not None:
            die()

    return prepare
