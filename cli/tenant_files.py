"""Looks for a tenant's trained models, which are files of the machine where trainers run."""

import os
from pathlib import Path

from cli.answers import Answer
from producers.training.model_files import models_folder

_MODELS_DIR = "TAPEWIRE_MODELS_DIR"


def with_models(answer: Answer, tenant: str, data_dir: Path) -> Answer:
    """Return an answer about a tenant with the models that this machine has of it.

    Args:
        answer: the answer, whose document is an object.
        tenant: the tenant.
        data_dir: the data directory; the folder of models is in it, or that of the environment.
    """
    models = Path(os.environ.get(_MODELS_DIR) or data_dir / "models")
    folder = models_folder(models, tenant)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    found = {"folder": str(folder.absolute()), "files": len(sizes), "bytes": sum(sizes)}
    line = (
        f"{found['folder']}: {len(sizes):,} files of trained models, {sum(sizes) / 1e6:,.3f} MB, "
        "until you remove the folder"
    )
    document = {**answer.document, "models": found}
    return Answer(document, [*answer.lines, *([line] if sizes else ())])
