"""`make bench-idle`: the memory and CPU of an idle system, and the time of its second start.

`tapewire up --no-demo` runs on a data directory that an earlier start has made: first with each
part as a program, then with parts that are forked from one process. Memory is the proportional set
size: a page that several processes share counts once in all. The embedded broker is apart. Modules
are compiled by the first start, and later starts read what it has written, as with any install.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from infra.class_archive import cache_folder
from infra.embedded_broker import free_port

_BROKER = "kafka.Kafka"
_READY = "open http"
_ARCHIVE_S = 60.0
_UNSET = ("KAFKA_BOOTSTRAP_SERVERS", "PYTHONDONTWRITEBYTECODE")
"""Environment variables that a system does not get."""
_MODES: Mapping[str, str] = {"programs": "false", "forked": "true"}
"""The names of the modes, and the setting of each."""


@dataclass(frozen=True, slots=True)
class Use:
    """The memory and CPU of a process."""

    pss_bytes: int
    """Its proportional set size."""
    cpu: float
    """The share of one core."""


def main() -> None:
    """Measure both modes, and print a table."""
    parser = argparse.ArgumentParser(prog="make bench-idle", description=__doc__)
    parser.add_argument("--settle", type=float, default=20.0, help="seconds before measuring")
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds of measuring")
    arguments = parser.parse_args()
    starts: dict[str, float] = {}
    uses: dict[str, Mapping[str, Use]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        with _system(folder, fork_parts="true"):
            _wait_for_archive()  # the first start also makes keys and topics, and fetches jars
        for mode, setting in _MODES.items():
            with _system(folder, fork_parts=setting) as (root, took_s):
                starts[mode] = took_s
                time.sleep(arguments.settle)
                uses[mode] = _measure(root, arguments.seconds)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}, {arguments.seconds:g} s of idling\n")
    print("\n".join(_table(starts, uses)))


def _table(starts: Mapping[str, float], uses: Mapping[str, Mapping[str, Use]]) -> Sequence[str]:
    """Return the lines of the result."""
    names = sorted({name for found in uses.values() for name in found})
    parts = [name for name in names if name != _BROKER]
    totals = {
        mode: Use(
            sum(found[name].pss_bytes for name in parts if name in found),
            sum(found[name].cpu for name in parts if name in found),
        )
        for mode, found in uses.items()
    }
    lines = [f"| {'':<42} | " + " | ".join(f"{mode:>20}" for mode in uses) + " |"]
    lines.append(f"| {'---':<42} | " + " | ".join(f"{'---:':>20}" for _ in uses) + " |")
    lines += (
        _row(name, [_shown(found.get(name)) for found in uses.values()])
        for name in [*parts, _BROKER]
    )
    lines.append(_row("**all without the broker**", [_shown(totals[mode]) for mode in uses]))
    lines.append(_row("**second start**", [f"{starts[mode]:.1f} s" for mode in uses]))
    return lines


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name:<42} | " + " | ".join(f"{cell:>20}" for cell in cells) + " |"


def _shown(use: Use | None) -> str:
    return "" if use is None else f"{use.pss_bytes / (1 << 20):.0f} MiB, {use.cpu:6.2%}"


@contextmanager
def _system(folder: Path, *, fork_parts: str) -> Generator[tuple[psutil.Process, float]]:
    """Run a system, and yield its first process and the seconds until it was ready."""
    env = {name: value for name, value in os.environ.items() if name not in _UNSET}
    command = (sys.executable, "-m", "cli", "up", "--no-demo", "--data-dir", str(folder))
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603  # our own program
        (*command, "--port", str(free_port())),
        env={
            **env,
            "TAPEWIRE_FORK_PARTS": fork_parts,
            "PYTHONPYCACHEPREFIX": str(folder.with_name(f"{folder.name}.compiled")),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        _wait(process.stdout)
        yield psutil.Process(process.pid), time.monotonic() - began
    finally:
        process.terminate()
        process.communicate()


def _wait(output: IO[str]) -> None:
    """Read the lines of a system until it is ready.

    Raises:
        SystemExit: it has ended before, or a part is not up.
    """
    lines = []
    for line in output:
        lines.append(line)
        if line.startswith(_READY):
            return
        if line.startswith("started in") and "without" in line:
            break
    sys.exit("the system is not up:\n" + "".join(lines))


def _wait_for_archive() -> None:
    """Wait until there is an archive of the broker's classes, which later starts use."""
    end_s = time.monotonic() + _ARCHIVE_S
    while not list(cache_folder().glob("*.jsa")) and time.monotonic() < end_s:
        time.sleep(1)


def _measure(root: psutil.Process, seconds: float) -> Mapping[str, Use]:
    """Return what each process of a system takes while nothing happens."""
    family = {_name(process): process for process in (root, *root.children(recursive=True))}
    before = {name: sum(process.cpu_times()[:2]) for name, process in family.items()}
    time.sleep(seconds)
    return {
        name: Use(
            process.memory_full_info().pss,
            (sum(process.cpu_times()[:2]) - before[name]) / seconds,
        )
        for name, process in family.items()
    }


def _name(process: psutil.Process) -> str:
    """Return the module that a process runs, with its arguments."""
    words = process.cmdline()
    if _BROKER in words:
        return _BROKER
    if "-m" not in words:
        return words[0]
    module, *arguments = words[words.index("-m") + 1 :]
    return "tapewire up" if module == "cli" else " ".join((module, *filter(None, arguments)))


if __name__ == "__main__":
    main()
