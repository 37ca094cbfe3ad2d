"""The commands of a lake list its tables and keep them up, or say why they cannot."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analytics.sinks import address as addresses
from analytics.sinks.address import open_sink
from cli.app import cli
from cli.lake_upkeep import vacuum
from tests.support.lake_log import LANES, TABLE, write_step

RUNNER = CliRunner()


@pytest.fixture
def lake(tmp_path: Path) -> str:
    address = f"delta:{tmp_path}/lake"
    sink = open_sink(address)
    for _ in range(3):
        write_step(sink, LANES, 60)
    return address


def call(*arguments: str) -> tuple[int, str]:
    result = RUNNER.invoke(cli, ["lake", *arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output + str(result.exception or "")


def test_tables_are_listed_with_their_positions(lake: str) -> None:
    code, text = call("tables", "--lake", lake, "--json")
    assert code == 0
    (row,) = json.loads(text)
    assert row["table"] == TABLE
    assert [(lane["partition"], lane["next"]) for lane in row["positions"]] == [(0, 180), (1, 180)]
    assert call("tables", "--lake", lake)[1].startswith(
        "numbers: 2 partitions up to 360 offsets, /"
    )


def test_a_lake_is_compacted_expired_and_vacuumed(lake: str) -> None:
    assert call("compact", "--lake", lake) == (0, "numbers: 6 files of 360 rows are 2 now\n")
    assert call("compact", TABLE, "--lake", lake) == (0, "numbers: nothing to do\n")
    assert call("expire", "--lake", lake) == (0, "numbers: 0 old states are forgotten\n")
    assert call("expire", "--older-than", "0s", "--lake", lake)[0] == 0
    assert call("vacuum", "--lake", lake) == (0, "numbers: 0 files are deleted\n")
    (row,) = vacuum(lake, [TABLE], timedelta()).document
    assert len(row["deleted"]) == 6


def test_an_empty_lake_has_no_table(tmp_path: Path) -> None:
    code, text = call("compact", "--lake", f"iceberg:{tmp_path}")
    assert (code, text) == (0, f"there is no table at iceberg:{tmp_path}\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("compact", "risk_alert"), "there is no table risk_alert"),
        (("vacuum", "--older-than", "59m"), "write 1h or more"),
        (("expire", "--older-than", "soon"), "write 90s, 30m, 12h or 7d"),
        (("expire", "--older-than", "99999999d"), "more than 100 years"),
        (("compact", "--lake", "orc:/srv/lake"), "begins with one of"),
    ],
)
def test_what_cannot_be_done_is_answered_with_a_reason(
    lake: str, arguments: tuple[str, ...], reason: str
) -> None:
    code, text = call(*arguments[:1], "--lake", lake, *arguments[1:])
    assert code != 0
    assert reason in text


def test_plain_files_have_no_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        """A sink without a history."""

    monkeypatch.setattr(addresses, "open_sink", lambda _: Plain())
    code, text = call("compact", "--lake", "parquet:/srv/lake")
    assert code != 0
    assert "only tables of delta: and iceberg: are kept up" in text
