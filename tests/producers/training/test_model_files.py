"""The folders of trained models."""

from pathlib import Path

import pytest

from producers.training.model_files import models_folder


@pytest.mark.parametrize("other", ["Acme", "acme/", "a" * 300, "a" * 301, "..", ""])
def test_the_models_of_two_tenants_are_in_two_folders(tmp_path: Path, other: str) -> None:
    folder = models_folder(tmp_path, other)
    assert folder.parent == tmp_path / "tenants"
    assert models_folder(tmp_path, "acme") != folder
    assert models_folder(tmp_path, "a" * 299) != folder
    assert str(folder).lower() != str(models_folder(tmp_path, "acme")).lower()
    assert models_folder(tmp_path, None) == tmp_path
