"""The store of a lake's files: folders of this machine, or a bucket of S3.

The libraries of the formats write the files. This module lists them, and has the settings of the
store for each library. Keys come from the environment, and no message has them.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyarrow import fs

from analytics.sinks.address import Address
from analytics.sinks.errors import InvalidAddress, LakeUnavailable

_MARKS = re.compile(r"\x1b\[[0-9;]*m|↳")
"""Colours and arrows in messages of deltalake."""
_UNUSABLE = re.compile(r"[][{}%?#*\\\"<>|^`\x00-\x1f]")
"""Characters of paths that a library of tables reads as something else."""
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Store:
    """The folders below an address.

    Attributes:
        root: the address's place, a URL or an absolute path.

    Raises:
        InvalidAddress: the place has a character that a library would misread.
    """

    def __init__(self, address: Address) -> None:
        self.is_remote = address.is_remote
        self.root = address.place if address.is_remote else str(Path(address.place).resolve())
        if found := _UNUSABLE.search(self.root):
            raise InvalidAddress(
                f"the place {self.root} has {found[0]!r} in it, which libraries of tables misread; "
                "choose a path of letters, digits and any of - _ . = /"
            )

    def place_of(self, name: str) -> str:
        """Return the place of a folder of the lake."""
        return f"{self.root}/{name}"

    def folders(self) -> Sequence[str]:
        """Return the names of the folders at the address, sorted; none if it is not there."""
        return sorted(
            info.base_name
            for info in self._listed(self.root)
            if info.type == fs.FileType.Directory and not info.base_name.startswith((".", "_"))
        )

    def content(self, place: str) -> Sequence[str]:
        """Return the names of files and folders at a place, sorted; none if it is not there."""
        return sorted(info.base_name for info in self._listed(place))

    def files_below(self, place: str) -> Mapping[str, float]:
        """Return the time of the last change, in seconds of Unix time, of each file by its path."""
        return {
            f"{'s3://' if self.is_remote else ''}{info.path}": info.mtime_ns / 1e9
            for info in self._listed(place, recursive=True)
            if info.type == fs.FileType.File
        }

    def delete(self, path: str) -> None:
        """Delete a file, if it is there."""
        filesystem = self._filesystem()
        try:
            filesystem.delete_file(path.removeprefix("s3://"))
        except FileNotFoundError:
            return

    def _listed(self, place: str, *, recursive: bool = False) -> Sequence[fs.FileInfo]:
        selector = fs.FileSelector(
            place.removeprefix("s3://"), allow_not_found=True, recursive=recursive
        )
        try:
            found: Sequence[fs.FileInfo] = self._filesystem().get_file_info(selector)
        except OSError as error:
            raise LakeUnavailable(f"{place} cannot be listed: {without_secrets(error)}") from None
        return found

    def _filesystem(self) -> fs.FileSystem:
        if not self.is_remote:
            return fs.LocalFileSystem()
        endpoint = _endpoint()
        return fs.S3FileSystem(
            region=_region(),
            **({} if endpoint is None else {"endpoint_override": endpoint}),
        )


def delta_options() -> dict[str, str]:
    """Return the settings of an object store for deltalake, which reads the keys itself."""
    endpoint = _endpoint()
    options = {"AWS_REGION": _region()}
    if endpoint is not None and endpoint.startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    return options


def iceberg_options() -> dict[str, str]:
    """Return the settings of an object store for pyiceberg; its library reads the keys itself."""
    endpoint = _endpoint()
    options = {"s3.region": _region()}
    if endpoint is not None:
        options["s3.endpoint"] = endpoint
    return options


def without_secrets(error: object) -> str:
    """Return a library's message in one line, without the keys of the object store."""
    text = " ".join(_MARKS.sub("", str(error)).split())
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, f"<{name}>")
    return text


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
