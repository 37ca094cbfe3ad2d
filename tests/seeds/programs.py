"""Programs of clients in Python and of curl, run as processes of their own."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_PATIENCE_S = 60.0


async def run_until(
    command: list[str], *texts: str, folder: Path, env: Mapping[str, str] | None = None
) -> str:
    """Run a program until its output has all texts, or, without any, to its end; return the output.

    Raises:
        AssertionError: the program ends before, or fails.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    output = ""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while not texts or any(text not in output for text in texts):
                data = await process.stdout.read(1 << 16)
                if not data:
                    break
                output += data.decode()
            if not texts:
                assert await process.wait() == 0, output
        assert all(text in output for text in texts), output
    except TimeoutError:
        raise AssertionError(f"{texts} are missing after {_PATIENCE_S} s in: {output}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output


def python(text: str, folder: Path) -> list[str]:
    """Return the command that runs a program in Python."""
    path = folder / "program.py"
    path.write_text(text, encoding="utf-8")
    return [sys.executable, "-u", str(path)]


def curls(text: str) -> list[list[str]]:
    """Return the commands that run the curls of a shell script, one by one."""
    lines = text.replace("\\\n", " ").splitlines()
    return [["bash", "-c", f"exec {line}"] for line in lines if line.startswith("curl ")]
