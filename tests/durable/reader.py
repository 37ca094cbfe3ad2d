"""Follows a durable stream to its end and prints each message: python reader.py URL MODE."""

import json
import sys

from durable_streams import stream  # pyright: ignore[reportMissingImports]  # it is installed elsewhere

url, live = sys.argv[1:]
with stream(url, offset="-1", live=live) as answer:
    for item in answer.iter_json():
        print(json.dumps(item), flush=True)
