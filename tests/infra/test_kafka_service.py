import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from infra import kafka_service
from infra.class_archive import ClassArchive
from infra.embedded_broker import Broker
from infra.errors import DownloadFailed


def test_the_process_becomes_the_broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prepared: list[tuple[Path, int, Mapping[str, str]]] = []
    became: list[tuple[str, Sequence[str]]] = []

    def prepare(folder: Path, port: int, *, properties: Mapping[str, str], **_: Any) -> Broker:
        prepared.append((folder, port, properties))
        archive = ClassArchive(tmp_path, ("/java",), "a.jar", tmp_path / "classes.list")
        return Broker(("/java", "kafka.Kafka"), port, archive)

    monkeypatch.setenv("TAPEWIRE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TAPEWIRE_PARTITION_BYTES_MAX", "2097152")
    monkeypatch.setattr(kafka_service, "prepare", prepare)
    monkeypatch.setattr(os, "execv", lambda path, command: became.append((path, command)))
    mask = os.umask(0)
    try:
        kafka_service.main()
        assert os.umask(mask) == 0o077
    finally:
        os.umask(mask)
    ((folder, port, properties),) = prepared
    assert (folder, port) == (tmp_path / "kafka", 9092)
    assert "2097152" in properties.values()
    assert became == [("/java", ("/java", "kafka.Kafka"))]


def test_a_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*_: Any, **__: Any) -> Broker:
        raise DownloadFailed("a jar is missing")

    monkeypatch.setattr(kafka_service, "prepare", prepare)
    mask = os.umask(0o077)
    try:
        with pytest.raises(SystemExit, match="tapewire: a jar is missing"):
            kafka_service.main()
    finally:
        os.umask(mask)


def test_a_setting_out_of_its_range_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWIRE_PARTITION_BYTES_MAX", "1")
    mask = os.umask(0o077)
    try:
        with pytest.raises(SystemExit, match="TAPEWIRE_PARTITION_BYTES_MAX"):
            kafka_service.main()
    finally:
        os.umask(mask)
