"""The clients of the repository and the documents: none is forgotten."""

import pytest

from tests.seeds.snippets import (
    CLIENTS,
    NOT_RUN,
    PLACES,
    SERVER,
    STATUS,
    SUCCESS,
    VARIABLE,
    documents,
)


def test_each_client_is_in_the_repository_and_each_file_is_a_client() -> None:
    files = {path.relative_to(CLIENTS).as_posix() for path in CLIENTS.rglob("*.*")}
    files = {file for file in files if "__pycache__" not in file}
    assert files == {*PLACES, "hooks/stream.ts", "response/server.py"}


def test_each_block_of_the_documents_is_run_or_has_a_reason() -> None:
    used = {*PLACES.values(), *SERVER, STATUS, SUCCESS}
    assert used.isdisjoint(NOT_RUN)
    assert documents().places() == used | set(NOT_RUN)


def test_a_folder_without_documents_fails_and_none_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere")
    with pytest.raises(pytest.fail.Exception, match="there are no documents"):
        documents()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(pytest.skip.Exception, match="names no folder"):
        documents()
