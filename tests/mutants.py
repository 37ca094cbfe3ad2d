"""Planted bugs that the tests must catch: `make mutants`.

Each is a fault that a developer could make at a seam, a change of a few characters. It is planted
into a copy of the code, and the tests of the edge run until one fails. A mutant that lives is a
promise without a test.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TESTS = ("tests/sse_edge", "tests/promises", "-m", "not kafka")
TIMEOUT_S = 240


class Mutant(NamedTuple):
    """One change to one file."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "window to live: the broadcast group skips a record",
        "delivery/feed.py",
        "entries, truncated, behind = self._entries(self.horizon, until)",
        "entries, truncated, behind = self._entries(tuple(n + 1 for n in self.horizon), until)",
    ),
    Mutant(
        "window to live: a dropped subscriber takes the horizon for its position",
        "delivery/broadcast.py",
        "self._dropped[subscriber] = position",
        "self._dropped[subscriber] = self.feed.horizon",
    ),
    Mutant(
        "history to live: one block too few",
        "delivery/history.py",
        "index = bisect_right(self._sums, sum(position), lo=self._evicted)",
        "index = bisect_right(self._sums, sum(position), lo=self._evicted) + 1",
    ),
    Mutant(
        "history to live: one block too many",
        "delivery/history.py",
        "return self._blocks[index:last], self._positions[last - 1]",
        "return self._blocks[max(0, index - 1):last], self._positions[last - 1]",
    ),
    Mutant(
        "history: another node's order is taken for this one's",
        "delivery/history.py",
        "fits = _between(before, position, after) and position[partition] < after[partition]",
        "fits = True",
    ),
    Mutant(
        "Kafka to window: a piece ends one record later",
        "cache/catch_up.py",
        "return Piece(piece.entries[first:], piece.next_offset, piece.rendering, first)",
        "return Piece(piece.entries[first:], piece.next_offset + 1, piece.rendering, first)",
    ),
    Mutant(
        "Kafka to window: a piece begins one record later",
        "cache/catch_up.py",
        "first = bisect_right(piece.offsets, offset - 1)",
        "first = bisect_right(piece.offsets, offset)",
    ),
    Mutant(
        "Kafka to window: the record after a slice is skipped",
        "delivery/connection.py",
        "until = rest[0].record.offset if rest else result.next_offset",
        "until = rest[0].record.offset + 1 if rest else result.next_offset",
    ),
    Mutant(
        "a window claims to cover a record that it has evicted",
        "cache/window.py",
        "return offset >= self.start",
        "return offset >= self.start - 1",
    ),
    Mutant(
        "a window's key index forgets the newest",
        "cache/window.py",
        "while entry is not None and entry.record.offset >= offset:",
        "while entry is not None and entry.record.offset > offset:",
    ),
    Mutant(
        "a resumed cursor is one record too far",
        "delivery/start.py",
        "positions |= {partition: offsets.get(partition.number, 0) for partition in of_topic}",
        "positions |= {p: offsets.get(p.number, -1) + 1 for p in of_topic}",
    ),
    Mutant(
        "an idle partition is resumed at latest",
        "delivery/start.py",
        "positions |= {partition: offsets.get(partition.number, 0) for partition in of_topic}",
        "positions |= {p: offsets.get(p.number) or tail.windows[p].next_offset for p in of_topic}",
    ),
    Mutant(
        "an added partition is read from its end",
        "delivery/start.py",
        "positions |= {partition: offsets.get(partition.number, 0) for partition in of_topic}",
        "positions |= {p: offsets.get(p.number, tail.windows[p].next_offset) for p in of_topic}",
    ),
    Mutant(
        "a heartbeat has an id",
        "delivery/control_events.py",
        "return dialect.beat(client, _now())",
        "return dialect.beat(client, _now())[:-1] + b'id: AAAA\\n\\n'",
    ),
    Mutant(
        "an event's id is the cursor before it",
        "delivery/feed.py",
        "self._writer.move(cells, index, moved[index])",
        "self._writer.move(cells, index, moved[index] - 1)",
    ),
    Mutant(
        "an id is not the last line of its block",
        "frame.py",
        'return b"%bid: %b\\n\\n" % (unfinished, cursor)',
        'return b"id: %b\\n%b\\n" % (cursor, unfinished)',
    ),
    Mutant(
        "a recreated topic is read on",
        "cache/tail.py",
        "if info is not None and info != followed.info and not followed.replaced:",
        "if info is not None and info.partitions != followed.info.partitions:",
    ),
    Mutant(
        "a log that has lost its end is read on",
        "cache/topic_tail.py",
        "if found.get(record.offset, record) != record:",
        "if record.offset not in found:",
    ),
    Mutant(
        "a gap is passed in silence",
        "delivery/connection.py",
        "            self._write(self._gap_events(gaps))\n",
        "",
    ),
    Mutant(
        "after a gap, the stream continues one record too far",
        "delivery/start.py",
        "return Gap(GapReason.EXPIRED, partition, offset, begin)",
        "return Gap(GapReason.EXPIRED, partition, offset, begin + 1)",
    ),
    Mutant(
        "checkpoints of filtered streams are not sent",
        "delivery/connection.py",
        "if unsent > 0 and is_due:",
        "if unsent < 0 and is_due:",
    ),
    Mutant(
        "a repeat is delivered twice",
        "delivery/feed.py",
        "            if entry.is_repeat or self._tenant not in (None, record.tenant):\n"
        "                continue\n",
        "",
    ),
    Mutant(
        "the shared compressor does not forget",
        "compression.py",
        "        shared.forget()\n",
        "",
    ),
)


def lives(mutant: Mutant, folder: Path) -> bool:
    """Whether the tests pass with the mutant."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(
        ROOT,
        copy,
        ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "*tapewire-data"),
    )
    path = copy / "sse_edge" / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: its text occurs {text.count(mutant.old)} times")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS]
    try:
        ran = subprocess.run(
            command, cwd=copy, timeout=TIMEOUT_S, capture_output=True, check=False, text=True
        )
    except subprocess.TimeoutExpired:
        return False  # a test that hangs has noticed
    if ran.returncode not in (0, 1):
        raise SystemExit(f"{mutant.name}: the tests did not run\n{ran.stdout[-2000:]}")
    return ran.returncode == 0


def main() -> None:
    """Plant each; exit with 1 if a mutant lives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="plant bugs with this in their name")
    only = parser.parse_args().only
    alive = []
    with tempfile.TemporaryDirectory() as folder:
        for mutant in (mutant for mutant in MUTANTS if only in mutant.name):
            began = time.monotonic()
            survived = lives(mutant, Path(folder))
            alive += [mutant.name] if survived else []
            verdict = "LIVES " if survived else "caught"
            print(f"{verdict} {time.monotonic() - began:5.0f} s  {mutant.name}", flush=True)
    print(f"{len(alive)} of {len(MUTANTS)} planted bugs live" if alive else "all are caught")
    sys.exit(1 if alive else 0)


if __name__ == "__main__":
    main()
