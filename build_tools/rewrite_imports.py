"""Rewrites imports for the wheel, where the top folders are packages below `tapewire`."""

import ast

PACKAGE = "tapewire"
FOLDERS = (
    "analytics",
    "cli",
    "infra",
    "kafka_io",
    "producers",
    "schemas",
    "sse_edge",
    "stream_processors",
)
"""The folders of the checkout that a wheel holds."""


class Unrewritable(ValueError):
    """An import has a form that would bind another name in the wheel."""


def rewrite_imports(source: str, name: str) -> str:
    """Return a module's source with its imports of the top folders placed below `tapewire`.

    Args:
        source: the module.
        name: the module's file, for error messages.

    Raises:
        Unrewritable: an import binds the name of a top folder, as `import schemas.codec` does.
    """
    lines = source.splitlines(keepends=True)
    edits: list[tuple[int, int]] = []
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_ours(node.module):
            edits.append((node.lineno - 1, node.col_offset + len("from ")))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if not _is_ours(alias.name):
                    continue
                if alias.asname is None:
                    raise Unrewritable(
                        f"{name}:{node.lineno}: `import {alias.name}` binds a name that a wheel "
                        f"does not have; write `from ... import ...`"
                    )
                edits.append((alias.lineno - 1, alias.col_offset))
    for row, column in sorted(edits, reverse=True):
        # The positions of the syntax tree count bytes of UTF-8.
        line = lines[row].encode()
        lines[row] = (line[:column] + f"{PACKAGE}.".encode() + line[column:]).decode()
    return "".join(lines)


def _is_ours(module: str | None) -> bool:
    return module is not None and module.split(".")[0] in FOLDERS
