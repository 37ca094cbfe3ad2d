"""The user and the host of a command of an operator, for records of what it changes."""

import getpass
import socket

_CHARS_MAX = 256


def operator() -> str:
    """Return `USER@HOST` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may know no name of its user
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:_CHARS_MAX]
