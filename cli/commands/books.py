"""`tapewire books put`, `close`, `show`, `limit` and `unlimit`: books and their limits."""

from typing import Annotated

import typer

from cli import books
from cli.console import (
    ApprovedBy,
    AsJson,
    ClearAfter,
    CriticalRatio,
    DataDir,
    Hysteresis,
    RaiseAfter,
    StaleAfter,
    TemporaryLimit,
    Token,
    Url,
    ValidUntil,
    WarnRatio,
    print_answer,
    print_note,
    reasons,
    settings_of,
)
from cli.files import read_object
from cli.limit_requests import Runs, Temporary, body_of, limit_of
from cli.target import find_edge

books_cli = typer.Typer(no_args_is_help=True, help="Set, close and list books and their limits.")

_Book = Annotated[str, typer.Argument(help="The book, as ROOT/BOOK; the root is ROOT/ROOT.")]


@books_cli.command("put")
def put_book(
    book: _Book,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="All holdings in JSON, as PUT /api/v1/books takes them; - for stdin.",
        ),
    ],
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Replace all holdings of a book."""
    with reasons():
        body = read_object(file, "the book")
        print_answer(books.put(_edge(url, data_dir), book, body, token), json=json)


@books_cli.command("close")
def close_book(
    book: _Book,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Close a book; those below it belong to the root from then on."""
    with reasons():
        print_answer(books.close(_edge(url, data_dir), book, token), json=json)


@books_cli.command("show")
def show_books(
    root: Annotated[str, typer.Argument(help="The top book of the tree.")],
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List the risk of each book of a tree."""
    with reasons():
        print_answer(books.show(_edge(url, data_dir), root, token), json=json)


@books_cli.command("limit")
def limit_book(  # noqa: PLR0913, PLR0917  # each is an option of the command
    book: _Book,
    limit: Annotated[float, typer.Argument(help="The limit, in the unit of the metric.")],
    metric: Annotated[
        str,
        typer.Option(
            help="var_95, es_95, var_99 or es_99 as a fraction, one of them with _amount in the "
            "book's currency, concentration, stress_loss:SCENARIO as a fraction, or "
            "stress_loss_amount:SCENARIO."
        ),
    ] = "var_95_amount",
    warn_ratio: WarnRatio = None,
    critical_ratio: CriticalRatio = None,
    hysteresis: Hysteresis = None,
    raise_after: RaiseAfter = None,
    clear_after: ClearAfter = None,
    temporary_limit: TemporaryLimit = None,
    valid_until: ValidUntil = None,
    approved_by: ApprovedBy = None,
    stale_after: StaleAfter = None,
    comment: Annotated[str, typer.Option(help="Why; the log keeps it.")] = "",
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Replace a book's limits with one limit."""
    runs = Runs(hysteresis, raise_after, clear_after)
    temporary = Temporary(temporary_limit, valid_until, approved_by)
    new_limit = limit_of(metric, limit, warn_ratio, critical_ratio, runs, temporary)
    with reasons():
        body = body_of(new_limit, stale_after, comment)
        print_answer(books.put_limits(_edge(url, data_dir), book, body, token), json=json)


@books_cli.command("unlimit")
def unlimit_book(
    book: _Book,
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Withdraw all limits of a book."""
    with reasons():
        print_answer(books.withdraw_limits(_edge(url, data_dir), book, token), json=json)


def _edge(url: str | None, data_dir: DataDir) -> str:
    return find_edge(url, settings_of(data_dir), print_note)
