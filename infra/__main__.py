"""`python -m infra`: downloads what `tapewire up` will need from a Maven repository.

`make` runs it in the background at the end of the installation.
"""

import sys

from infra.errors import DownloadFailed
from infra.maven import fetch, kafka_jars
from infra.settings import InfraSettings
from infra.trades_package import TRADES


def main() -> None:
    """Download, and say what is missing; `tapewire up` tries again."""
    try:
        fetch({**kafka_jars(), **TRADES}, InfraSettings().maven_url)
    except DownloadFailed as error:
        sys.exit(f"tapewire: {error}")


if __name__ == "__main__":
    main()
