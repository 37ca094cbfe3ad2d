import ast
from collections.abc import Iterator
from pathlib import Path

from build_tools.compiled import MODULES, ROOT
from build_tools.rewrite_imports import FOLDERS


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(tree: ast.Module) -> dict[str, str]:
    """Return the module of each imported name."""
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def bases(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield each class of a file, with the module and the name of each of its bases."""
    tree = ast.parse(path.read_text())
    modules = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                named = base.value if isinstance(base, ast.Subscript) else base
                if isinstance(named, ast.Name):
                    yield node.name, modules.get(named.id, module_of(path)), named.id


def test_each_module_is_there_once_and_in_order() -> None:
    assert list(MODULES) == sorted(set(MODULES))
    for name in MODULES:
        assert (ROOT / name).is_file(), name


def test_no_class_outside_the_compiled_modules_has_a_compiled_base() -> None:
    compiled = {module_of(ROOT / name) for name in MODULES}
    found = [
        f"{module_of(path)}.{name} < {module}.{base}"
        for folder in (*FOLDERS, "tests")
        for path in (ROOT / folder).rglob("*.py")
        if module_of(path) not in compiled
        for name, module, base in bases(path)
        if module in compiled
    ]
    assert found == []
