"""What runs without Faust; `tests/journeys` runs workers and notifiers in their groups."""

import subprocess
import sys

WITHOUT_FAUST = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("faust", "mode"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
try:
    import stream_processors.app
except ModuleNotFoundError as error:
    print(error)
import stream_processors.group_worker
import stream_processors.notifications.__main__
print("imported")
"""


def test_a_notifier_starts_where_faust_is_not_installed() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_FAUST],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout.splitlines() == ["No module named 'faust'", "imported"], ended.stderr
