"""The topics and ACLs in the chart are those of the catalogue."""

import pytest

from infra import chart_files
from infra.acls import PARTS, grants_of
from schemas.topics import CATALOGUE


@pytest.mark.parametrize(
    ("name", "text"),
    [("topics.yaml", chart_files.topics_file()), ("acls.yaml", chart_files.acls_file())],
)
def test_the_files_of_the_chart_are_up_to_date(name: str, text: str) -> None:
    found = (chart_files.FOLDER / name).read_text(encoding="utf-8")
    assert found == text, "run `python -m infra.chart_files`"


def test_each_topic_has_a_row() -> None:
    rows = chart_files.topics_file().splitlines()[1:]
    assert len(rows) == len(CATALOGUE)
    assert '"name": "risk.alerts", "partitions": 6' in chart_files.topics_file()


def test_each_grant_of_a_part_is_in_its_acls() -> None:
    assert set(chart_files.USERS) < set(PARTS)
    text = chart_files.acls_file()
    count = text.count('"Read"') + text.count('"Write"') + text.count('"Describe"')
    operations = [grant.operation.value for user in chart_files.USERS for grant in grants_of(user)]
    assert count == sum(operation in {"Read", "Write", "Describe"} for operation in operations)
