"""`tapewire risk replay`, as a user types it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from kafka_io.publisher import Publisher
from producers.market.prices import load_prices, trading_days
from producers.returns import ReturnsPublisher
from tests.conftest import World

pytestmark = pytest.mark.kafka


async def tapewire(world: World, *arguments: str) -> tuple[int, str]:
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": world.prefix,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "risk", "replay", *arguments),
        env=os.environ | env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_the_crisis_is_printed_and_drawn(world: World, tmp_path: Path) -> None:
    async with Publisher(world.producer_settings) as publisher:
        returns = ReturnsPublisher(publisher)
        await returns.send(
            observation for day in trading_days(load_prices()) for observation in day.at_close()
        )
    years = ("--from", "2007-01-01", "--to", "2009-12-31", "--portfolio", "MSFT")
    picture = tmp_path / "risk.png"
    code, out = await tapewire(world, *years, "--limit", "0.035", "--out", str(picture))
    assert code == 0, out
    lines = out.splitlines()
    first = lines[next(at for at, line in enumerate(lines) if "step" in line.split()) + 1]
    assert first.split()[1] == "raised"
    assert first.startswith("2008-")
    assert "756 days with a forecast" in out
    assert "37.8 were to be expected" in out
    assert "traffic light" in out
    assert picture.read_bytes().startswith(b"\x89PNG")

    drawing = tmp_path / "risk.svg"
    code, out = await tapewire(world, *years, "--method", "ewma", "--out", str(drawing))
    assert code == 0, out
    assert "<svg" in drawing.read_text(encoding="utf-8")

    for wrong, named in (
        (("--portfolio", "nobody"), "the log has no returns of nobody"),
        (("--method", "magic"), "'magic' is no method"),
        (("--confidence", "95"), "between 0.5 and 1"),
        (("--limit", "-1"), "limit is -1.0"),
        (("--from", "2030-01-01", "--to", "2031-01-01"), "its returns are from 2000-"),
        (("--out", "risk.pdf"), "must end in .png or .svg"),
    ):
        code, out = await tapewire(world, *years, *wrong)
        assert (code, named in out) == (1, True), out
