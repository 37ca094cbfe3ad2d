"""`python -m stream_processors.notifications`: settings that are refused before it starts."""

import os
import subprocess
import sys


def test_an_invalid_setting_is_explained_and_its_value_is_not_shown() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "stream_processors.notifications"],
        env=os.environ | {"TAPEWIRE_NOTIFICATION_KEY": "hush"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("a setting is invalid: TAPEWIRE_NOTIFICATION_KEY")
    assert "secrets need a key of at least 32" in ended.stderr
    assert "hush" not in ended.stderr
