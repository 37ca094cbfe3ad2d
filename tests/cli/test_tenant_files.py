from pathlib import Path

import pytest

from cli.answers import Answer
from cli.tenant_files import with_models
from producers.training.model_files import models_folder

ANSWER = Answer({"tenant": "acme"}, ["nothing"])


def write_model(models: Path, tenant: str) -> Path:
    folder = models_folder(models, tenant) / "gas"
    folder.mkdir(parents=True)
    (folder / "m-1.joblib").write_bytes(b"12345")
    return folder.parent


def test_the_models_of_a_tenant_are_counted_with_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAPEWIRE_MODELS_DIR", raising=False)
    folder = write_model(tmp_path / "models", "acme")
    write_model(tmp_path / "models", "blue")
    answer = with_models(ANSWER, "acme", tmp_path)
    assert answer.document == {
        "tenant": "acme",
        "models": {"folder": str(folder), "files": 1, "bytes": 5},
    }
    assert answer.lines[0] == "nothing"
    assert answer.lines[1].startswith(f"{folder}: 1 files of trained models")


def test_the_folder_of_the_environment_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEWIRE_MODELS_DIR", str(tmp_path / "elsewhere"))
    write_model(tmp_path / "elsewhere", "acme")
    assert with_models(ANSWER, "acme", tmp_path).document["models"]["files"] == 1
    without = with_models(ANSWER, "other", tmp_path)
    assert without.document["models"]["files"] == 0
    assert without.lines == ["nothing"]
