"""`tapewire books` as a user types it."""

from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cli.__main__ import cli
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
