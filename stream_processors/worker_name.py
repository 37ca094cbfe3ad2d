"""A worker's name, which no other living worker of its group may have.

Kafka lets the newer of two members with one name replace the older, so both would lose their
partitions again and again. Before a worker joins, it holds a lock of its name on this host, which
ends with its process. A member of this name from another host may have died a moment ago: Kafka
forgets it within a session, for which the worker waits.
"""

import asyncio
import hashlib
import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kafka_io.errors import Unread
from kafka_io.topic_admin import GroupMember
from stream_processors.errors import NameTaken

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

_POLL_S = 0.5
_REMEDY = (
    "give each worker a TAPEWIRE_WORKER_ID of its own, or leave it unset where each runs on a host "
    "of its own, and give each system a TAPEWIRE_TOPIC_PREFIX"
)


def default_name() -> str:
    """Return the name of the only worker on this host; it is the same after a restart."""
    return "worker-" + re.sub(r"[^a-zA-Z0-9._-]", "-", socket.gethostname())[:100]


def host_of(client: str) -> str:
    """Return the host in the `client_id` of a member."""
    return client.rpartition("@")[2]


@contextmanager
def held(bootstrap_servers: str, group: str, name: str) -> Generator[None]:
    """Hold the lock of a worker's name on this host, until the block ends.

    Raises:
        NameTaken: another process of this host holds it.
    """
    if sys.platform == "win32":  # it has no such locks; the group has to tell
        yield
        return
    digest = hashlib.sha256(f"{bootstrap_servers} {group} {name}".encode()).hexdigest()[:24]
    path = Path(tempfile.gettempdir()) / f"tapewire-worker-{os.getuid()}-{digest}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:  # without a place for the lock the group has to tell
        logger.warning("no lock for the name of this worker: %s", error)
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        process = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise NameTaken(
            f"process {process} of this host is a worker named {name}, of the same group; {_REMEDY}"
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)  # the file stays: removing it would race with the next worker


async def wait_for_namesake(
    members: Callable[[], Sequence[GroupMember]], name: str, *, within_s: float
) -> None:
    """Return when no worker of another host has a name in the group.

    Args:
        members: asks Kafka for the group's members; it blocks.
        name: the worker's name in the group.
        within_s: Kafka has forgotten a dead worker by then.

    Raises:
        NameTaken: a worker of another host has the name, and lives.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    is_logged = False
    while True:
        try:
            found = await asyncio.to_thread(members)
        except Unread as error:  # the group detects a second worker of this name later
            logger.info("the group's members are not known: %s", error)
            return
        hosts = [
            host_of(member.client_id)
            for member in found
            if member.name == name and host_of(member.client_id) != socket.gethostname()
        ]
        if not hosts:
            return
        if loop.time() >= deadline_s:
            raise NameTaken(f"a worker named {name} runs on host {hosts[0]}; {_REMEDY}")
        if not is_logged:
            is_logged = True
            logger.warning(
                "a worker named %s runs on host %s, or has just died; waiting up to %.0f s",
                *(name, hosts[0], within_s),
            )
        await asyncio.sleep(_POLL_S)
