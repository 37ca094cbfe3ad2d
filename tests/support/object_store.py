"""An object store of this machine, which speaks S3's protocol."""

import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import httpx

from infra.embedded_broker import free_port

BUCKET = "lake"
_START_S = 60.0


@contextmanager
def object_store() -> Generator[Mapping[str, str]]:
    """Run a store with one bucket, and yield the environment of its clients."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(timeout=_START_S) as client:
            _make_bucket(client, f"{url}/{BUCKET}", server)
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "of-tests",
            "AWS_SECRET_ACCESS_KEY": "hidden-key-of-tests",
            "AWS_REGION": "us-east-1",
        }
    finally:
        server.kill()
        server.wait()


def _make_bucket(client: httpx.Client, url: str, server: "subprocess.Popen[bytes]") -> None:
    while True:
        try:
            client.put(url).raise_for_status()
        except httpx.ConnectError:
            try:
                # It is the pause between two attempts, and ends early if the server does.
                code = server.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"the object store ended with {code}") from None
        return
