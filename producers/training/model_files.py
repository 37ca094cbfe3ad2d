"""Where trained models are: a folder for each tenant, and a file for each meter."""

from hashlib import blake2b
from pathlib import Path
from urllib.parse import quote

from schemas.events import TrainingCommand

_FILE_NAME_CHARS_MAX = 200
_TENANT_CHARS_MAX = 100


def models_folder(folder: Path, tenant: str | None) -> Path:
    """Return the folder of a tenant's models; no tenant's name leads to another's.

    The digest keeps names apart that differ in their ends, or in what a file system ignores.
    """
    if tenant is None:
        return folder
    name = quote(tenant, safe=" ").replace(".", "%2E")[:_TENANT_CHARS_MAX]
    digest = blake2b(tenant.encode(), digest_size=8).hexdigest()
    return folder / "tenants" / f"{name}-{digest}"


def model_path(folder: Path, command: TrainingCommand) -> Path:
    """Return the file of a command's model; no meter's name leads out of the folder."""
    name = quote(command.meter_id, safe=" ").replace(".", "%2E")[:_FILE_NAME_CHARS_MAX]
    return folder / command.meter_type / f"{name}.joblib"
