import sys
from pathlib import Path

import pytest

from infra import modules
from infra.modules import is_compiled, module_name


def test_a_checkout_names_its_folders() -> None:
    assert module_name("sse_edge") == "sse_edge"


@pytest.mark.parametrize("suffix", [".py", ".so"])
def test_the_file_of_a_module_tells_whether_it_is_compiled(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "codec.py").touch()
    if suffix == ".so":
        (folder / "codec.abi3.so").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(modules, "module_name", lambda _: "package.codec")
    sys.modules.pop("package", None)
    assert is_compiled() == (suffix == ".so")
    sys.modules.pop("package", None)
