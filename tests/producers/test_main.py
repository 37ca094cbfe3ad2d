import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("demo", "--speed", "0"), "--speed is 0.0; it must be more than 0"),
        (("painter",), "invalid choice: 'painter'"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[str, ...], text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "producers", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert text in done.stderr


def test_an_unknown_agent_ends_the_orchestrator_with_the_settings_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "producers", "orchestrator"],
        env={"TAPEWIRE_AGENTS": "nowhere:Agent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "TAPEWIRE_AGENTS" in done.stderr
    assert "nowhere" in done.stderr
