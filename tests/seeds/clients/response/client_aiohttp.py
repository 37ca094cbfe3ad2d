import aiohttp


async def test_sse_integration() -> None:
    url = "http://localhost:8000/live-data"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        count = 0
        async for line in response.content:
            count += line.startswith(b"data: ")
            if count == 3:
                return
