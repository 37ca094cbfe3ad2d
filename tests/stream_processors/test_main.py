"""`python -m stream_processors`: settings that are refused before the worker starts."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("TAPEWIRE_VAR_LIMIT", "-1", "a setting is invalid: limit is -1.0; it must be a finite"),
        ("TAPEWIRE_RISK_LEVELS", "95", "a setting is invalid: the confidence is 95"),
        ("TAPEWIRE_LOG_LEVEL", "loud", "Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("TAPEWIRE_BATCH_WITHIN_S", "0", "a setting is invalid: 1 validation error"),
    ],
)
def test_an_invalid_setting_is_explained(name: str, value: str, why: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "stream_processors"],
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert why in ended.stderr
