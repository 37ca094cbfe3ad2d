"""Reports known vulnerabilities of the locked dependencies, from what `pip-audit` has found.

    pip-audit --format json ... | python -m build_tools.audit

A dependency that could not be looked up, such as without a way to the advisories, is listed with
its version: `pip-audit` alone would say that no vulnerability is known.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO


def main(found: TextIO = sys.stdin) -> int:
    """Print a report, and return the exit code: 1 with a vulnerability, 2 without an audit."""
    try:
        dependencies: Sequence[Mapping[str, Any]] = json.load(found)["dependencies"]
    except (ValueError, LookupError, TypeError):
        sys.stdout.write("pip-audit has found nothing out; its messages say why\n")
        return 2
    vulnerable = [
        f"{dependency['name']} {dependency['version']}: {advisory['id']}, "
        f"fixed in {', '.join(advisory['fix_versions']) or 'no version'}"
        for dependency in dependencies
        for advisory in dependency.get("vulns", ())
    ]
    unknown = [
        "  " + dependency["skip_reason"].rpartition(": ")[2]
        for dependency in dependencies
        if "skip_reason" in dependency
    ]
    total = f"{len(dependencies)} dependencies: {len(vulnerable)} known vulnerabilities"
    lines = [*vulnerable, total]
    if unknown:
        lines += [f"{len(unknown)} could not be looked up; these versions are locked:", *unknown]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
