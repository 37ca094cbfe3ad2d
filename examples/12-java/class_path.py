"""Prints the class path of `Producer.java`: the embedded broker's jars, and Avro.

Jars that are not on this machine are downloaded once, as `make up` does.
"""

import os
import tomllib
from pathlib import Path

from infra.maven import fetch, kafka_jars
from infra.settings import InfraSettings

LOCK = Path(__file__).with_name("jars.lock.toml")


def class_path() -> str:
    """Return the paths of the jars, as Java takes them."""
    avro = tomllib.loads(LOCK.read_text(encoding="utf-8"))["sha256"]
    jars = fetch({**kafka_jars(), **avro}, InfraSettings().maven_url)
    return os.pathsep.join(map(str, jars))


if __name__ == "__main__":
    print(class_path())
