import io
import json

import pytest

from build_tools.audit import main

SOUND = {"name": "sound", "version": "1.0", "vulns": []}
WEAK = {
    "name": "weak",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}
SKIPPED = {"name": "far", "skip_reason": "Dependency could not be audited: far (3.0)"}


def report(*dependencies: object) -> int:
    return main(io.StringIO(json.dumps({"dependencies": dependencies, "fixes": []})))


def test_a_vulnerability_fails_and_is_named_with_the_versions_that_fix_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(SOUND, WEAK) == 1
    assert capsys.readouterr().out.splitlines() == [
        "weak 2.0: PYSEC-1, fixed in 2.1",
        "weak 2.0: PYSEC-2, fixed in no version",
        "2 dependencies: 2 known vulnerabilities",
    ]


def test_what_could_not_be_looked_up_is_listed_and_not_taken_for_sound(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(SOUND, SKIPPED) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 dependencies: 0 known vulnerabilities",
        "1 could not be looked up; these versions are locked:",
        "  far (3.0)",
    ]


@pytest.mark.parametrize("text", ["", "no json", "{}", "[]"])
def test_without_an_answer_of_pip_audit_nothing_is_claimed(text: str) -> None:
    assert main(io.StringIO(text)) == 2
