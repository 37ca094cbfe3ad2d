"""Rows equal the log, none twice, after kills at random points and with several writers."""

import random
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from analytics.sinks.address import open_sink
from analytics.sinks.base import Tables
from tests.support.lake_log import LANES, TABLE, check_rows
from tests.support.lake_writer import STEP_ROWS, compact, context, follow, started, stop, wake

_SETTLE_S = 60.0


@pytest.fixture(params=["delta", "iceberg", "parquet"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}:{tmp_path}/lake"


def sink_of(address: str) -> Tables:
    return cast("Tables", open_sink(address))


def is_compacted(address: str) -> bool:
    """Return whether a lake has states, which plain files have not."""
    return not address.startswith("parquet:")


def wait_for_rows(address: str, more: int) -> None:
    """Wait until each lane of the table has got more rows."""
    sink = sink_of(address)
    before = sink.positions(TABLE)
    deadline = time.monotonic() + _SETTLE_S
    while True:
        positions = sink.positions(TABLE)
        if all(positions.get(lane, 0) >= before.get(lane, 0) + more for lane in LANES):
            return
        assert time.monotonic() < deadline, f"no rows came: {positions}"
        time.sleep(0.05)  # a lake tells nobody of a commit


def kill_writers(address: str, kills: int, seed: int) -> None:
    """Kill one of two writers of the same lanes at a random point, and start another, many times.

    Meanwhile the table is compacted, by a process that is killed as well.
    """
    dice = random.Random(seed)
    processes = context()
    with started(processes.Process(target=follow, args=(address, LANES))):
        wait_for_rows(address, 1)
        measured = time.monotonic()
        wait_for_rows(address, 3 * STEP_ROWS)
        step_s = (time.monotonic() - measured) / 3
        for kill in range(kills):
            target = compact if kill % 4 == 3 and is_compacted(address) else follow
            begun = processes.Event()
            arguments = (address, begun) if target is compact else (address, LANES, begun)
            with started(processes.Process(target=target, args=arguments)):
                assert begun.wait(_SETTLE_S)
                time.sleep(dice.uniform(0, 6 * step_s))  # until a random point, where it is killed
        wait_for_rows(address, 1)
    with started(processes.Process(target=follow, args=(address, LANES))):
        wait_for_rows(address, 1)


def test_few_kills_lose_and_repeat_no_row(address: str) -> None:
    kill_writers(address, kills=3, seed=1)
    assert check_rows(sink_of(address)) > 0


@pytest.mark.analytics
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [7])
def test_a_hundred_kills_lose_and_repeat_no_row(
    address: str, seed: int, record_property: Callable[[str, object], None]
) -> None:
    kill_writers(address, kills=100, seed=seed)
    sink = sink_of(address)
    rows = check_rows(sink)
    # Refused and interrupted commits may have left files, which no reader saw.
    left = sink.vacuum(TABLE, timedelta())
    assert check_rows(sink) == rows > 0
    record_property("account", f"{rows} rows after 100 kills, which left {len(left)} files")


@pytest.mark.analytics
@pytest.mark.timeout(900)
def test_a_zombie_that_wakes_up_repeats_no_row(address: str) -> None:
    dice = random.Random(11)
    processes = context()
    for _ in range(20):
        begun = processes.Event()
        with started(processes.Process(target=follow, args=(address, LANES, begun))) as zombie:
            assert begun.wait(_SETTLE_S)
            time.sleep(dice.uniform(0, 0.3))  # until a random point, where it is stopped
            stop(zombie)
            with started(processes.Process(target=follow, args=(address, LANES))):
                wait_for_rows(address, 7)
                wake(zombie)
                wait_for_rows(address, 14)
        check_rows(sink_of(address))


@pytest.mark.analytics
@pytest.mark.timeout(600)
def test_writers_of_one_lane_each_and_a_compaction_go_on_together(address: str) -> None:
    processes = context()
    first, second = LANES
    with (
        started(processes.Process(target=follow, args=(address, [first]))),
        started(processes.Process(target=follow, args=(address, [second]))),
        started(processes.Process(target=follow, args=(address, LANES))),
        started(
            processes.Process(target=compact, args=(address,))
            if is_compacted(address)
            else processes.Process(target=follow, args=(address, [first]))
        ),
    ):
        for _ in range(5):
            wait_for_rows(address, 20)
    assert check_rows(sink_of(address)) >= 200
