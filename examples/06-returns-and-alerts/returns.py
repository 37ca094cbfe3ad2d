"""Sends 150 returns of a portfolio, limits its VaR, and prints the alert that follows.

Usage: returns.py PORTFOLIO_ID
"""

import asyncio
import json
import os
import random
import sys
from datetime import UTC, datetime, timedelta

import httpx
from httpx_sse import aconnect_sse

from kafka_io.publisher import Publisher
from producers.returns import ReturnsPublisher
from schemas.events import Return
from schemas.instants import from_datetime

EDGE = os.environ.get("EDGE_URL", "http://localhost:8000")
DAYS = 150


async def main(portfolio_id: str) -> None:
    """Set a limit that the returns exceed, send them, and wait for the alert."""
    async with httpx.AsyncClient(base_url=EDGE, timeout=60) as http:
        limits = {"limits": [{"metric": "var_95", "limit": 0.01}], "comment": "an example"}
        (await http.put(f"/api/v1/limits/{portfolio_id}", json=limits)).raise_for_status()
        url = f"/api/v1/sse/alerts?from=earliest&entity_id={portfolio_id}"
        async with aconnect_sse(http, "GET", url) as source:
            await send_returns(portfolio_id)
            async for event in source.aiter_sse():
                if event.event == "risk_alert":
                    data = json.loads(event.data)["data"]
                    print(data["state"], data["message"], flush=True)
                    return


async def send_returns(portfolio_id: str) -> None:
    """Send daily returns with a standard deviation of 2 %."""
    dice = random.Random(7)  # the same returns in every run
    start = datetime(2024, 1, 1, tzinfo=UTC)
    returns = [
        Return(portfolio_id, from_datetime(start + timedelta(days=day)), dice.gauss(0, 0.02))
        for day in range(DAYS)
    ]
    async with Publisher() as publisher:
        await ReturnsPublisher(publisher).send(returns)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
