"""Prints the reports of trainings, or risk alerts."""

import json
from collections.abc import Callable
from typing import Any

import requests
import sseclient


class Client:
    def __init__(self, base_url: str = "http://localhost:8000") -> None:
        self.base_url = base_url

    def listen_training(self, callback: Callable[[Any], None], client_id: str) -> None:
        self._listen(f"training?client_id={client_id}", "training_progress", callback)

    def listen_alerts(self, callback: Callable[[Any], None]) -> None:
        self._listen("alerts", "risk_alert", callback)

    def _listen(self, path: str, event: str, callback: Callable[[Any], None]) -> None:
        url, headers = f"{self.base_url}/api/v1/sse/{path}", {"Accept": "text/event-stream"}
        response = requests.get(url, stream=True, headers=headers, timeout=60)
        for message in sseclient.SSEClient(response).events():
            try:
                envelope = json.loads(message.data)
            except json.JSONDecodeError:
                continue
            if envelope["event"] == event:
                callback(envelope["data"])


def handle_training_progress(data: Any) -> None:
    print(f"Progress: {data['progress']}%", data["status"], data["message"])
    print(f"Loss: {data['metrics'].get('loss')}")


def handle_risk_alert(data: Any) -> None:
    print(f"RISK ALERT: {data['message']}")
    print(f"Severity: {data['severity']}", data["metric_name"], data["metric_value"])


client = Client()
client.listen_training(handle_training_progress, client_id="python-client-001")
