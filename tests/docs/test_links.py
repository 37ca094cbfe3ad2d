import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = "|".join(
    [*(path.parent.name for path in ROOT.glob("*/__init__.py")), "tests", "examples"]
)
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "examples" / "README.md",
    ROOT / "benchmarks" / "README.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [
        link
        for link in links
        if not link.startswith(("http:", "https:")) and not (page.parent / link).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    """Paths of the top folders in code spans, such as `tests/golden` or `schemas/avro`."""
    if page.name == "CHANGELOG.md":
        return
    spans = re.findall(rf"`((?:{FOLDERS})/[\w./*-]+)`", page.read_text("utf-8"))
    missing = [span for span in spans if "*" not in span and not (ROOT / span).exists()]
    assert [span for span in missing if "NAME" not in span and "CLASS" not in span] == []
