import asyncio
from collections.abc import AsyncGenerator

from velithon import Velithon
from velithon.responses import SSEResponse

app = Velithon()


@app.get("/live-counter")
async def live_counter() -> SSEResponse:
    async def generate() -> AsyncGenerator[str]:
        for count in range(10):
            yield f"Count: {count}"
            await asyncio.sleep(0.2)  # clients must see each event arrive by itself

    return SSEResponse(generate())


@app.get("/live-data")
async def live_data() -> SSEResponse:
    async def generate() -> AsyncGenerator[dict[str, float]]:
        for count in range(10):
            yield {"temperature": 20.0 + count, "humidity": 50.0}
            await asyncio.sleep(0.2)  # clients must see each event arrive by itself

    return SSEResponse(generate())


@app.get("/structured-events")
async def structured_events() -> SSEResponse:
    async def generate() -> AsyncGenerator[dict[str, object]]:
        yield {"data": "hello", "event": "welcome", "id": "welcome"}
        for step in range(1, 6):
            data = {"status": f"step {step}", "progress": 20 * step}
            yield {"data": data, "event": "status", "id": f"step-{step}", "retry": 3000}
        yield {"data": {"progress": 100}, "event": "complete", "id": "end"}

    return SSEResponse(generate())
