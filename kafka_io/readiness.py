"""Tells the process that started this one when it is ready, by systemd's notification protocol.

The protocol is one datagram to the socket that `NOTIFY_SOCKET` names; see sd_notify(3).
"""

import os
import socket
from contextlib import suppress


def notify_ready(status: str) -> None:
    """Report that this process is ready, with a line about its state; nobody may be listening."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux's abstract namespace
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.sendto(f"READY=1\nSTATUS={status}".encode(), address)
