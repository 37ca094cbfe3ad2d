import ast

import pytest
from hypothesis import given, strategies as st

from build_tools.rewrite_imports import FOLDERS, Unrewritable, rewrite_imports


def test_imports_of_the_top_folders_move_below_the_package() -> None:
    source = (
        '"""From schemas import nothing."""\n'
        "import json, schemas.codec as codec\n"
        "from schemas.codec import (\n    decode,\n)\n"
        "from schemas import events\n"
        "from schematics import other\n"
        'text = "from schemas import x"\n'
        "def later():\n    from kafka_io import client  # ü\n"
    )
    assert rewrite_imports(source, "module.py") == (
        '"""From schemas import nothing."""\n'
        "import json, tapewire.schemas.codec as codec\n"
        "from tapewire.schemas.codec import (\n    decode,\n)\n"
        "from tapewire.schemas import events\n"
        "from schematics import other\n"
        'text = "from schemas import x"\n'
        "def later():\n    from tapewire.kafka_io import client  # ü\n"
    )


def test_an_import_that_binds_a_top_folder_is_refused_with_its_place() -> None:
    with pytest.raises(Unrewritable, match=r"module\.py:2: `import schemas\.codec` binds a name"):
        rewrite_imports("x = 1\nimport schemas.codec\n", "module.py")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*FOLDERS, "json", "collections"]), st.sampled_from(["", ".part"])
        ),
        max_size=8,
    )
)
def test_every_rewritten_module_has_the_same_imports_under_other_names(
    modules: list[tuple[str, str]],
) -> None:
    source = "".join(f"from {name}{part} import thing\n" for name, part in modules)
    imports = [
        node.module
        for node in ast.walk(ast.parse(rewrite_imports(source, "module.py")))
        if isinstance(node, ast.ImportFrom)
    ]
    assert imports == [
        f"tapewire.{name}{part}" if name in FOLDERS else f"{name}{part}" for name, part in modules
    ]
