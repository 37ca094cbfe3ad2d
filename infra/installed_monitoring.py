"""The rules, configurations and dashboards of `infra/monitoring`, written into a folder of yours.

An installed wheel has them, too. The configuration of Prometheus for a system on one machine reads
the targets from a file, whose path it gets here.
"""

from collections.abc import Sequence
from pathlib import Path

from infra.data_dir import TARGETS
from infra.installed_files import write_file

FOLDER = Path(__file__).parent / "monitoring"
NAMES = (
    *("rules.yaml", "alertmanager.yaml", "prometheus.embedded.yaml", "prometheus.kubernetes.yaml"),
    *(f"dashboards/{name}.json" for name in ("edge", "kafka", "processors", "risk")),
)
_MODE = 0o644
_TARGETS = f"../../.tapewire/{TARGETS}"
_HERE = "infra/monitoring/"


def install_monitoring(folder: Path, targets: Path) -> Sequence[str]:
    """Write the files for Prometheus, Alertmanager and Grafana; return a line for each.

    A file that was changed is kept: its new text is written beside it, with `.new` after its name.

    Args:
        folder: where the files go; it is made if it is missing.
        targets: the file by which Prometheus finds the parts that it watches.

    Raises:
        NotInstalled: a file cannot be written.
    """
    lines = []
    for name in NAMES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        text = text.replace(_TARGETS, str(targets.resolve()))
        text = text.replace(_HERE, f"{folder}/")
        path = folder / name
        is_changed = path.exists() and path.read_text(encoding="utf-8") != text
        if is_changed:
            path = path.with_name(f"{path.name}.new")
        write_file(path, text, _MODE)
        lines.append(f"kept {folder / name}; wrote {path}" if is_changed else f"wrote {path}")
    return lines
