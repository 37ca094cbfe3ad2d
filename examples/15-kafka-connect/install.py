"""Installs a worker of Kafka Connect with the Iceberg sink into a folder.

    python examples/15-kafka-connect/install.py build/connect

Jars that are not on this machine are downloaded once. `EventRow.java` is compiled, by `javac` of
Java 17 or newer. The folder then has the worker's jars in `worker`, and in `plugins` those of the
sink, of the converter and of the transformation.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

from infra.maven import fetch
from infra.settings import InfraSettings

HERE = Path(__file__).parent
SERVICES = {
    "apicurio": {
        "org.apache.kafka.connect.storage.Converter": (
            "io.apicurio.registry.utils.converter.AvroConverter"
        )
    },
    "tapewire": {"org.apache.kafka.connect.transforms.Transformation": "tapewire.EventRow"},
}
"""The classes that plugins offer. Their jars do not list them, so a worker would search all of
them."""


def install(folder: Path) -> None:
    """Link the jars into a folder, and compile the transformation."""
    locked = tomllib.loads((HERE / "jars.lock.toml").read_text(encoding="utf-8"))
    for part in ("worker", "plugins", "classes"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for part, jars in locked.items():
        place = folder / "worker" if part == "worker" else folder / "plugins" / part
        place.mkdir(parents=True)
        for jar in fetch(jars, InfraSettings().maven_url):
            (place / jar.name).symlink_to(jar)
    compile_transformation(folder / "worker", folder / "classes")
    (folder / "plugins" / "tapewire").mkdir()
    for part, services in SERVICES.items():
        with ZipFile(folder / "plugins" / part / "services.jar", "w") as jar:
            for service, name in services.items():
                jar.writestr(f"META-INF/services/{service}", f"{name}\n")
            if part == "tapewire":
                for path in (folder / "classes").rglob("*.class"):
                    jar.write(path, path.relative_to(folder / "classes"))


def compile_transformation(worker: Path, classes: Path) -> None:
    """Compile `EventRow.java` for Java 17."""
    home = os.environ.get("JAVA_HOME")
    compiler = shutil.which("javac", path=f"{home}/bin" if home else None)
    if compiler is None:
        raise SystemExit("javac is missing; it is part of a JDK 17 or newer")
    subprocess.run(  # noqa: S603  # the compiler of this machine
        [compiler, "--release", "17", "-cp", f"{worker}/*", "-d", classes, HERE / "EventRow.java"],
        check=True,
    )


if __name__ == "__main__":
    install(Path(sys.argv[1]))
