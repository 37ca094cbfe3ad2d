"""The modules in which a busy system spends its time, which mypyc can compile. All stay Python.

Compiled or not, the modules behave the same; mypyc only checks the types of arguments besides. The
compiled wheel has both forms of each module, and Python prefers the compiled one.

`python -m build_tools.compiled FOLDER` makes a copy of the checkout with compiled modules, in which
the tests run as in a checkout.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MODULES = (
    "kafka_io/batch_reader.py",
    "kafka_io/batches.py",
    "kafka_io/dead_letters.py",
    "schemas/avro_writers.py",
    "schemas/codec.py",
    "schemas/gate.py",
    "schemas/headers.py",
    "schemas/keys.py",
    "sse_edge/cache/topic_tail.py",
    "sse_edge/cache/window.py",
    "sse_edge/cursor.py",
    "sse_edge/delivery/fair_queue.py",
    "sse_edge/delivery/feed.py",
    "sse_edge/delivery/groups.py",
    "sse_edge/delivery/history.py",
    "sse_edge/delivery/merge.py",
    "sse_edge/delivery/partition_reads.py",
    "sse_edge/delivery/skips.py",
    "sse_edge/log/conversion.py",
    "sse_edge/log/record.py",
    "sse_edge/streams/dialects/agent.py",
    "sse_edge/streams/dialects/backtest.py",
    "sse_edge/streams/dialects/chat.py",
    "sse_edge/streams/dialects/cloudevents.py",
    "sse_edge/streams/dialects/mystocks.py",
    "sse_edge/streams/dialects/training.py",
    "sse_edge/streams/render.py",
    "stream_processors/books/alerts.py",
    "stream_processors/gate.py",
    "stream_processors/input_queue.py",
    "stream_processors/messages.py",
    "stream_processors/risk/alert_events.py",
    "stream_processors/risk/alerts.py",
    "stream_processors/risk/estimates.py",
    "stream_processors/risk/forecast_history.py",
    "stream_processors/risk/limited.py",
    "stream_processors/risk/live_backtest.py",
    "stream_processors/risk/log_replay.py",
    "stream_processors/risk/measures.py",
    "stream_processors/risk/methods.py",
    "stream_processors/risk/model_tests.py",
    "stream_processors/risk/moments.py",
    "stream_processors/risk/portfolio.py",
    "stream_processors/risk/risk_batch.py",
    "stream_processors/risk/thresholds.py",
    "stream_processors/risk/window.py",
    "stream_processors/windowing/tallies.py",
)
"""Files of the modules. A class of theirs has subclasses in these modules only: a compiled class
can have no others."""

ROOT = Path(__file__).parents[1]
GROUP = "tapewire_compiled"
"""The name of the one library that has the code of all modules."""


def make_copy(folder: Path) -> None:
    """Make a copy of the checkout with compiled modules, in a folder that is emptied before.

    Raises:
        CalledProcessError: mypyc or the C compiler refuses a module; the errors are printed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in _files_of_checkout():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    subprocess.run(
        (sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"),
        cwd=folder,
        env=os.environ | {"TAPEWIRE_COMPILE": "1"},
        check=True,
    )


def _files_of_checkout() -> Iterator[str]:
    """Yield the files that are or would be committed, relative to the checkout."""
    git = shutil.which("git") or "git"
    command = (git, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    yield from (name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


if __name__ == "__main__":
    make_copy(Path(sys.argv[1]).resolve())
