"""Builds the Go server that the edge is compared with, where Go is present."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "benchmarks" / "go"
SERVER = ROOT / "build" / "benchmarks" / "go_sse"
SCHEMAS = ROOT / "schemas" / "avro" / "TrainingProgress"


def build() -> Path | None:
    """Return the server's program; None, with a printed line, where it cannot be built.

    Go fetches the modules that go.mod names, by the sums in go.sum, and builds only what has
    changed.
    """
    go = shutil.which("go")
    if go is None:
        print("the Go server is left out: Go 1.26 is missing; Debian's package is golang-go")
        return None
    SERVER.parent.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(  # noqa: S603  # our own program
        [go, "build", "-C", SOURCE, "-trimpath", "-mod=readonly", "-o", SERVER, "."],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        print(f"the Go server is left out: {built.stderr.strip()}")
        return None
    return SERVER


def command(program: Path, servers: str, topic: str, partitions: int, port: int) -> list[str]:
    """Return the command that starts the server."""
    return [
        str(program), "-servers", servers, "-topic", topic, "-partitions", str(partitions),
        "-port", str(port), "-schemas", str(SCHEMAS),
    ]  # fmt: skip
