"""Writes files that an installation consists of, outside of data directories."""

from pathlib import Path

from infra.errors import NotInstalled


def write_file(path: Path, text: str, mode: int) -> None:
    """Write a file with a mode, and make its folder if it is missing.

    Raises:
        NotInstalled: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode)
        path.chmod(mode)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NotInstalled(
            f"{path} cannot be written ({error.strerror}); run the command as root, or name a "
            "folder of yours"
        ) from error
