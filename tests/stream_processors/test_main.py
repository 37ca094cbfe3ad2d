"""`python -m stream_processors`: settings that are refused before the worker starts."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        (
            "TAPEWIRE_VAR_LIMIT",
            "-1",
            "a setting is invalid: TAPEWIRE_VAR_LIMIT is -1; it must",
        ),
        (
            "TAPEWIRE_RISK_LEVELS",
            "95",
            "TAPEWIRE_RISK_LEVELS is 95: the confidence is 95",
        ),
        (
            "TAPEWIRE_LOG_LEVEL",
            "loud",
            "TAPEWIRE_LOG_LEVEL is LOUD; it must be one of DEBUG",
        ),
        (
            "TAPEWIRE_BATCH_WITHIN_S",
            "0",
            "TAPEWIRE_BATCH_WITHIN_S is 0; it must be a",
        ),
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
