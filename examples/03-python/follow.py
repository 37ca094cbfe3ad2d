"""Follows the alerts, and keeps the last id in a file: a restart continues where this run ended.

Usage: follow.py [COUNT]    prints COUNT alerts, or all for ever
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import requests
import sseclient

EDGE = os.environ.get("EDGE_URL", "http://localhost:8000")
LAST_ID = Path(os.environ.get("LAST_ID_FILE", "last-id.txt"))


def main() -> None:
    """Print alerts until there are enough."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else None
    last_id = LAST_ID.read_text(encoding="ascii") if LAST_ID.exists() else ""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last_id}
    url = f"{EDGE}/api/v1/sse/alerts?from=earliest"
    with requests.get(url, stream=True, headers=headers, timeout=(5, 60)) as response:
        response.raise_for_status()
        body: Any = response  # sseclient-py takes a response, and declares another type
        for event in sseclient.SSEClient(body).events():
            if event.event == "risk_alert":
                print(json.loads(event.data)["data"]["message"], flush=True)
                count = None if count is None else count - 1
            if event.id:  # after the event was processed: a crash repeats it, and loses nothing
                LAST_ID.write_text(event.id, encoding="ascii")
            if count == 0:
                return


if __name__ == "__main__":
    main()
