"""`tapewire schemas register`, `check` and `list`: the schemas at a schema registry."""

import typer

from cli.console import (
    AsJson,
    DataDir,
    print_answer,
    print_note,
    reasons,
    settings_of,
)
from cli.progress import working
from cli.schemas import (
    check_answer,
    compare,
    list_answer,
    open_registry,
    register,
    register_answer,
)

schemas_cli = typer.Typer(
    no_args_is_help=True,
    help="Register the schemas of all events at a schema registry, and compare them.",
)


@schemas_cli.callback()
def schemas() -> None:
    """Register the schemas of all events at a schema registry, and compare them."""


@schemas_cli.command("register")
def register_(
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Register all versions that are missing, and set the levels of compatibility.

    Each subject checks later versions against all earlier ones, in both directions. It can be run
    again at any time; what is registered stays.
    """
    with reasons():
        prefix = settings_of(data_dir).topic_prefix
        with open_registry() as registry, working("registering schemas"):
            print_note(f"schema registry: {registry.url}")
            changes = list(register(registry, prefix))
    print_answer(register_answer(changes), json=json)


@schemas_cli.command("check")
def check(
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """Say how the registry differs from the schemas of this release; exit with 1 if it does."""
    with reasons():
        prefix = settings_of(data_dir).topic_prefix
        with open_registry() as registry:
            print_note(f"schema registry: {registry.url}")
            differences = compare(registry, prefix)
    print_answer(check_answer(differences), json=json)
    if differences:
        raise typer.Exit(1)


@schemas_cli.command("list")
def list_(
    json: AsJson = False,  # noqa: FBT002  # a flag of the command line
    data_dir: DataDir = None,
) -> None:
    """List the subjects, with their versions and ids."""
    with reasons():
        prefix = settings_of(data_dir).topic_prefix
        with open_registry() as registry:
            print_note(f"schema registry: {registry.url}")
            answer = list_answer(registry, prefix)
    print_answer(answer, json=json)
