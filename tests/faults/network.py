"""Cuts connections off without a word: their packets are dropped, and neither end learns it."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_NFT = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def needs_nft() -> None:
    """Skip a test where packets cannot be dropped."""
    if _NFT is None:
        pytest.skip("packets are dropped by nft, of the package nftables; it is not installed")
    if subprocess.run([_NFT, "list", "tables"], capture_output=True, check=False).returncode:
        pytest.skip("packets can be dropped by root only")


@contextmanager
def dropped(ports: Collection[int]) -> Generator[None]:
    """Drop all packets from and to some TCP ports of this machine."""
    listed = _listed(ports)
    rules = f"tcp dport {listed} drop\ntcp sport {listed} drop"
    with _rules(f"tapewire_ports_{min(ports)}", f"type filter hook input priority 0\n{rules}"):
        yield


@contextmanager
def control_group() -> Generator[Path]:
    """Have a control group, whose processes can be isolated together."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    root = next(Path(path) for _, path, kind, *_ in mounts if kind == "cgroup2")
    group = root / f"tapewire-{uuid.uuid4().hex[:8]}"
    group.mkdir()
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (root / "cgroup.procs").write_text(pid)
        group.rmdir()


def in_group(group: Path, command: Sequence[str]) -> tuple[str, ...]:
    """Return a command that starts another one in a group.

    A socket is of the group in which its process was when it was made.
    """
    return ("sh", "-c", 'echo $$ > "$0"; exec "$@"', str(group / "cgroup.procs"), *command)


@contextmanager
def isolated(group: Path, ports: Collection[int]) -> Generator[None]:
    """Drop the packets that the processes of a group send from and to some TCP ports."""
    listed = _listed(ports)
    socket = f'socket cgroupv2 level 1 "{group.relative_to("/sys/fs/cgroup")}"'
    rules = f"{socket} tcp dport {listed} drop\n{socket} tcp sport {listed} drop"
    with _rules(group.name.replace("-", "_"), f"type filter hook output priority 0\n{rules}"):
        yield


def _listed(ports: Collection[int]) -> str:
    return "{ " + ", ".join(map(str, ports)) + " }"


@contextmanager
def _rules(table: str, chain: str) -> Generator[None]:
    """Have a table with one chain for as long as the block lasts."""
    assert _NFT is not None
    text = f"table inet {table} {{\nchain only {{\n{chain}\n}}\n}}\n"
    subprocess.run([_NFT, "-f", "-"], input=text, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run([_NFT, "delete", "table", "inet", table], check=True)
