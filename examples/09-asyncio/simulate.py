"""Runs three simulations at the same time on one event loop, and reports each of them.

Usage: simulate.py NAME

In a project of your own: pip install tapewire, and KAFKA_BOOTSTRAP_SERVERS names your Kafka.
"""

import asyncio
import random
import sys

try:
    from tapewire.producers import Unsent, get_sse_broadcaster
except ModuleNotFoundError:  # in a checkout of Tapewire
    from producers import Unsent, get_sse_broadcaster

STEPS = 4


async def simulate(run_id: str, seed: int) -> None:
    """Report each step of a simulation; a report that Kafka does not take ends nothing."""
    dice, value = random.Random(seed), 100.0
    reporter = get_sse_broadcaster()
    for step in range(1, STEPS + 1):
        await asyncio.sleep(0.01)  # here your simulation works
        value *= 1 + dice.gauss(0, 0.01)
        status = "completed" if step == STEPS else "running"
        results = {"total_return": value / 100 - 1}
        try:
            await reporter.send_backtest_progress(
                run_id, 100.0 * step / STEPS, status, f"step {step} of {STEPS}", None, results
            )
        except Unsent as error:
            print(f"{run_id}: {error}", file=sys.stderr)


async def main(name: str) -> None:
    """Run the simulations, and close the connection to Kafka."""
    async with get_sse_broadcaster(), asyncio.TaskGroup() as runs:
        for number in range(3):
            runs.create_task(simulate(f"{name}-{number}", number))
    print("reported")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
