"""`tapewire books` as a user types it."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import cli
from tests.support.scripted_server import scripted


def test_a_book_is_put_from_a_file_limited_shown_and_closed_through_an_edge(tmp_path: Path) -> None:
    file = tmp_path / "book.json"
    file.write_text('{"currency": "USD"}')
    limit = {"metric": "var_95_amount", "limit": 2000.0}
    responses: dict[str, list[tuple[int, Any]]] = {
        "PUT /api/v1/books/firm/tech": [(200, {"currency": "USD", "holdings": []})],
        "PUT /api/v1/books/firm/tech/limits": [(200, {"limits": [limit]})],
        "DELETE /api/v1/books/firm/tech/limits": [(200, {})],
        "DELETE /api/v1/books/firm/tech": [(200, {})],
        "GET /health/live": [(200, {})],
        "GET /api/v1/books/firm": [(404, {"detail": "no book of 'firm' has been measured"})],
    }
    with scripted(responses) as edge:
        for arguments, text in (
            (("put", "firm/tech", str(file)), "firm/tech holds nothing itself"),
            (("limit", "firm/tech", "2000"), "firm/tech: var_95_amount up to 2000"),
            (("unlimit", "firm/tech"), "firm/tech has no limits"),
            (("close", "firm/tech"), "firm/tech is closed"),
            (("show", "firm"), "no book of 'firm' has been measured"),
        ):
            result = CliRunner().invoke(cli, ["books", *arguments, "--url", edge.url])
            assert text in result.output


def test_the_options_of_limit_make_a_request() -> None:
    responses: dict[str, list[tuple[int, Any]]] = {
        "GET /health/live": [(200, {})],
        "PUT /api/v1/books/firm/tech/limits": [(200, {"limits": []})],
    }
    temporary = ("--temporary-limit", "3000", "--valid-until", "2026-12-31T18:00:00Z")
    approved = ("--approved-by", "cro", "--critical-ratio", "1.5", "--stale-after", "60")
    runs = ("--hysteresis", "0.2", "--raise-after", "2", "--clear-after", "3")
    with scripted(responses) as edge:
        command = ["books", "limit", "firm/tech", "2000", *temporary, *approved, *runs]
        result = CliRunner().invoke(cli, [*command, "--url", edge.url])
        assert result.exit_code == 0, result.output
        refused = CliRunner().invoke(
            cli, ["books", "limit", "firm/tech", "2000", "--stale-after", "nan"]
        )
        assert refused.exit_code == 1
        assert "--stale-after is nan" in refused.output
    (body,) = [request.body for request in edge.received if request.method == "PUT"]
    assert body == {
        "limits": [
            {
                "metric": "var_95_amount",
                "limit": 2000.0,
                "warn_ratio": None,
                "critical_ratio": 1.5,
                "hysteresis": 0.2,
                "raise_after": 2,
                "clear_after": 3,
                "temporary": {
                    "limit": 3000.0,
                    "valid_until": "2026-12-31T18:00:00Z",
                    "approved_by": "cro",
                },
            }
        ],
        "stale_after_s": 60.0,
        "comment": "",
    }


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--stale-after 0", "--stale-after is 0.0"),
        ("--stale-after nan", "--stale-after is nan"),
        ("--warn-ratio 1", "--warn-ratio is 1.0"),
        ("--critical-ratio 1", "--critical-ratio is 1.0"),
        ("--hysteresis 1", "--hysteresis is 1.0"),
        ("--raise-after 0", "--raise-after is 0"),
        ("--temporary-limit 3", "give --temporary-limit, --valid-until and --approved-by together"),
        ("--temporary-limit 2 --valid-until 2026-12-31T18:00:00Z --approved-by b", "limit is 2.0"),
        ("--temporary-limit 3 --valid-until 2026-12-31 --approved-by b", "--valid-until is"),
        ("--temporary-limit 3 --valid-until soon --approved-by b", "--valid-until is 'soon'"),
    ],
)
def test_an_option_out_of_bounds_is_named(options: str, reason: str) -> None:
    command = ["books", "limit", "firm/tech", "2", *options.split(), "--url", "http://127.0.0.1:9"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code != 0
    assert reason in " ".join(result.output.split())
