"""`tapewire backup` and `restore`: the log of the embedded broker in one file, and back."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import AsJson, DataDir, print_json, print_line, reasons, settings_of
from cli.progress import progress_bar
from infra.backup import Manifest, back_up, restore as restore_backup


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write, such as tapewire.tar.gz.")],
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Back up a stopped system: its broker's log, the key of its tokens, and its models.

    The file has a checksum of each file in it. A Kafka of your own is backed up by its own means.
    """
    with reasons(), progress_bar("backing up bytes") as report:
        made = back_up(settings_of(data_dir).data_dir, file, report)
    _print(made, f"backed up to {file}", json=json)


def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Restore a backup into a new data directory, after all its checksums were compared.

    A directory that has a log, or files of others, is refused. Cursors of clients stay valid.
    """
    folder = settings_of(data_dir).data_dir
    with reasons(), progress_bar("restoring bytes") as report:
        found = restore_backup(file, folder, report)
    text = f"restored into {folder.resolve()}; `tapewire up --data-dir {folder}` starts it"
    _print(found, text, json=json)


def _print(manifest: Manifest, text: str, *, json: bool) -> None:
    if json:
        print_json(
            {
                "software": manifest.software,
                "cluster_id": manifest.cluster_id,
                "made_at": manifest.made_at,
                "files": len(manifest.files),
                "bytes": manifest.size_bytes,
            }
        )
        return
    print_line(
        f"{len(manifest.files)} files, {manifest.size_bytes / 1e6:,.1f} MB of the cluster "
        f"{manifest.cluster_id}, {text}"
    )
