"""The version of this software, and how members of consumer groups name it."""

import socket
from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def software_version() -> str:
    """Return the version of this software; empty in a checkout that is not installed."""
    try:
        return version("tapewire")
    except PackageNotFoundError:
        return ""


def member_client_id() -> str:
    """Return this software's version and host for a consumer group: `tapewire-VERSION@HOST`.

    By the host, a processor recognizes an earlier self. `tapewire status` shows both. Earlier
    releases named no version.
    """
    return f"{'-'.join(filter(None, ('tapewire', software_version())))}@{socket.gethostname()}"
