import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra import maven
from infra.errors import DownloadFailed
from infra.maven import fetch, kafka_jars, local_repository

PATH = "org/example/thing/1.0/thing-1.0.jar"
CONTENT = b"a jar"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Repository:
    folder: Path
    url: str


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """Serve a repository, and begin with an empty local one."""
    remote = tmp_path / "remote"
    (remote / PATH).parent.mkdir(parents=True)
    (remote / PATH).write_bytes(CONTENT)
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(remote))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield Repository(remote, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_downloaded_once(repository: Repository) -> None:
    (file,) = fetch({PATH: SHA256}, repository.url)
    assert file == local_repository() / PATH
    assert file.read_bytes() == CONTENT
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    (repository.folder / PATH).unlink()
    assert fetch({PATH: SHA256}, repository.url) == [file]


def test_the_address_of_maven_central_is_not_looked_up_for_files_that_are_there(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maven, "_maven_central", lambda: repository.url)
    files = fetch({PATH: SHA256}, None)
    monkeypatch.delattr(maven, "_maven_central")
    assert fetch({PATH: SHA256}, None) == files


def test_a_file_that_is_not_the_locked_one_is_not_used(repository: Repository) -> None:
    with pytest.raises(DownloadFailed, match=r"thing-1\.0\.jar is not the locked file"):
        fetch({PATH: "0" * 64}, repository.url)
    assert not (local_repository() / PATH).exists()
    (file,) = fetch({PATH: SHA256}, repository.url)
    file.write_bytes(b"something else")
    with pytest.raises(DownloadFailed, match="remove it, and start again"):
        fetch({PATH: SHA256}, repository.url)


def test_a_file_that_cannot_be_had_is_named_with_another_way(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maven, "_TRIES", 1)
    with pytest.raises(DownloadFailed, match=r"missing\.jar cannot be .*TAPEWIRE_MAVEN_URL"):
        fetch({"org/missing.jar": SHA256}, repository.url)


def test_every_jar_of_the_broker_is_locked() -> None:
    jars = kafka_jars()
    assert len(jars) > 40
    assert all(len(sha256) == 64 for sha256 in jars.values())
