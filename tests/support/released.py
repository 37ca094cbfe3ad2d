"""An earlier release, from the history of this repository, with the dependencies that it had."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMITS = {"0.1.0": "479ba58"}
"""The last commit of each release."""
_FOLDER = ROOT / "build" / "infra" / "releases"


@dataclass(frozen=True)
class Released:
    """A release that can be run."""

    checkout: Path
    python: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment of its programs, whose imports must find the release and nothing else."""
        return {"PYTHONPATH": str(self.checkout)}

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Return a command that runs Python in the release; -P keeps the present folder out."""
        return (str(self.python), "-P", *arguments)


def released(version: str) -> Released:
    """Return a release; check it out and install its dependencies first, once."""
    commit = COMMITS[version]
    checkout, venv = _FOLDER / version / "checkout", _FOLDER / version / "venv"
    release = Released(checkout, venv / "bin" / "python")
    ready = _FOLDER / version / f"{commit}.installed"
    if ready.exists():
        return release
    if _run("git", "cat-file", "-e", f"{commit}^{{commit}}", check=False).returncode:
        pytest.skip(f"the history of this checkout has no commit {commit}, which {version} is")
    checkout.mkdir(parents=True, exist_ok=True)
    archive = _run("git", "archive", commit).stdout
    _run("tar", "-x", "-C", str(checkout), given=archive)
    uv = str(Path(sys.executable).with_name("uv"))
    _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv))
    locks = checkout / "requirements"
    into = ("--quiet", "--python", str(release.python), "--require-hashes")
    for options in (("-r", "run.lock"), ("--no-deps", "-r", "bare.lock")):
        # This project's settings do not count.
        _run(uv, "pip", "install", "--no-config", *into, *options, cwd=locks)
    ready.touch()
    return release


def _run(
    *command: str, given: bytes = b"", check: bool = True, cwd: Path = ROOT
) -> "subprocess.CompletedProcess[bytes]":
    program = shutil.which(command[0])
    assert program is not None, f"{command[0]} is not installed"
    return subprocess.run(
        [program, *command[1:]], input=given, cwd=cwd, check=check, stdout=subprocess.PIPE
    )
