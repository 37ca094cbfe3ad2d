"""`python -m tapewire`: the `tapewire` command."""

import sys


def main() -> None:
    """Run the command line; it needs the whole system, which a producer's install lacks."""
    try:
        from cli.__main__ import commands_for, run  # noqa: PLC0415  # packages may be missing

        commands = commands_for(sys.argv[1:])
    except ModuleNotFoundError as error:
        sys.exit(
            f"tapewire: the package {error.name} is missing; the command needs the whole system: "
            "pip install 'tapewire[all]'"
        )
    run(commands)


if __name__ == "__main__":
    main()
