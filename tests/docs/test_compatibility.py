"""The table of promises: what holds of each, why something differs, and which test shows it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "compatibility.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| promise"))
]


def test_each_promise_works_or_differs_with_its_reason() -> None:
    assert len(ROWS) > 63
    for promise, holds, _ in ROWS:
        assert re.match(r"works\b|differs: .{20,}", holds), promise


def test_each_promise_names_tests_that_exist() -> None:
    for promise, _, tests in ROWS:
        named = re.findall(r"`([^`]+)`", tests)
        assert named, promise
        for name in named:
            assert (ROOT / name).exists(), f"{promise}: {name}"
