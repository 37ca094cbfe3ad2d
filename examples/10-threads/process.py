"""Processes files in several threads, which share one reporter.

Usage: process.py NAME

In a project of your own: pip install tapewire, and KAFKA_BOOTSTRAP_SERVERS names your Kafka.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

try:
    from tapewire.producers import BlockingBroadcaster
except ModuleNotFoundError:  # in a checkout of Tapewire
    from producers import BlockingBroadcaster

FILES = 4


def process(reporter: BlockingBroadcaster, name: str, number: int) -> int:
    """Process a file, and report it; any thread may call the reporter."""
    words = sum(range(number * 1_000))  # here your program works
    run_id = f"{name}-{number}"
    reporter.send_training_progress(run_id, 50.0, "running", f"file {number}", {"words": words})
    reporter.send_training_progress(run_id, 100.0, "completed", "done", {"words": words})
    return words


def main(name: str) -> None:
    """Process all files; leaving the block waits until Kafka has every report."""
    with BlockingBroadcaster() as reporter, ThreadPoolExecutor(4) as threads:
        total = sum(threads.map(partial(process, reporter, name), range(FILES)))
    print(f"{total} words")


if __name__ == "__main__":
    main(sys.argv[1])
