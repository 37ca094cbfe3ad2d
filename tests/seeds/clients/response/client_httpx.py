import httpx


async def test_sse_endpoint() -> None:
    async with (
        httpx.AsyncClient(app=app, base_url="http://test") as client,
        client.stream("GET", "/live-counter") as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        events = []
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                events.append(line.removeprefix("data: "))
            if len(events) == 3:
                break
        assert events == ["Count: 0", "Count: 1", "Count: 2"]
