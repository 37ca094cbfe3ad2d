"""The version of this software."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def software_version() -> str:
    """Return the version of this software; empty in a checkout that is not installed."""
    try:
        return version("tapewire")
    except PackageNotFoundError:
        return ""
