"""`python -m infra.kafka_service`: the embedded broker alone, as a service.

It takes the place of the process: signals reach the broker itself.
"""

import os
import sys

from infra.embedded_broker import bounded_disk, prepare
from infra.errors import InfraError
from infra.settings import InfraSettings
from kafka_io.errors import InvalidSetting

PORT = 9092


def main() -> None:
    """Prepare the broker below the data directory, and become it."""
    os.umask(0o077)
    try:
        settings = InfraSettings()
        broker = prepare(
            settings.data_dir / "kafka",
            PORT,
            maven_url=settings.maven_url,
            properties=bounded_disk(settings.partition_bytes_max),
        )
    except InvalidSetting as error:
        sys.exit(f"a setting is invalid: {error}")
    except InfraError as error:
        sys.exit(f"tapewire: {error}")
    os.execv(broker.command[0], broker.command)  # noqa: S606  # the broker is what this is for


if __name__ == "__main__":
    main()
