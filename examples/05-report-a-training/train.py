"""Reports a training loop, and follows it on an edge to its end.

Usage: train.py RUN_ID
"""

import json
import math
import os
import sys

import httpx
from httpx_sse import connect_sse

from producers import BlockingBroadcaster

EDGE = os.environ.get("EDGE_URL", "http://localhost:8000")
EPOCHS = 5


def train(run_id: str) -> None:
    """Report each epoch of a loop whose loss falls."""
    with BlockingBroadcaster() as reporter:
        reporter.send_training_progress(run_id, 0.0, "started", "loading data")
        for epoch in range(1, EPOCHS + 1):
            loss = math.exp(-epoch)  # here your model learns
            progress, message = 100.0 * epoch / EPOCHS, f"epoch {epoch} of {EPOCHS}"
            reporter.send_training_progress(run_id, progress, "running", message, {"loss": loss})
        reporter.send_training_progress(run_id, 100.0, "completed", "done", {"loss": loss})


def follow(run_id: str) -> None:
    """Print the run's events; the edge ends the stream after the last one."""
    url = f"{EDGE}/api/v1/sse/training?from=earliest&task_id={run_id}"
    with httpx.Client(timeout=60) as http, connect_sse(http, "GET", url) as source:
        for event in source.iter_sse():
            if event.event == "training_progress":
                data = json.loads(event.data)["data"]
                print(f"{data['progress']:5.1f} % {data['status']}: {data['message']}", flush=True)


if __name__ == "__main__":
    train(sys.argv[1])
    follow(sys.argv[1])
