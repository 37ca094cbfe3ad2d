"""Follows a training task to its end, with `requests` alone."""

import json

import requests


def stream_task_status(task_id: str, base_url: str = "http://localhost:8000") -> None:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
    url = f"{base_url}/trainmodel/stream/{task_id}"
    with requests.get(url, stream=True, headers=headers, timeout=60) as response:
        for line in response.iter_lines(decode_unicode=True):
            if not line.startswith("data: "):
                continue
            data = json.loads(line.removeprefix("data: "))
            if data.get("type") == "heartbeat":
                continue
            print(f"Status: {data['status']}, Progress: {data['progress']}% {data['message']}")
            if data["status"] in ("SUCCESS", "FAILURE"):
                return


stream_task_status("your-task-id")
