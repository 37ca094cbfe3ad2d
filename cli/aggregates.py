"""`tapewire aggregates`: keeps the aggregates of a lake up to date with its tables."""

from collections.abc import Callable, Iterator

from cli.table_libraries import tables_or_reason

Say = Callable[[str], None]


def keep(lake: str, moments: Iterator[None], *, rebuild: bool, say: Say) -> None:
    """Bring the aggregates of a lake up to date, once at each moment.

    Args:
        lake: the lake's address.
        moments: yields when a step is due.
        rebuild: whether the first step computes all rows again.
        say: prints a line.

    Raises:
        NotInstalled: the extra `lake` is not installed.
        AnalyticsFailed: the lake cannot be read or written.
    """
    with tables_or_reason():
        from analytics.aggregate_keeper import open_keeper  # noqa: PLC0415  # it needs an extra

        with open_keeper(lake) as keeper:
            for number, _ in enumerate(moments):
                steps = keeper.step(rebuild=rebuild and number == 0)
                for step in steps:
                    say(f"{step.name}: {step.rows} rows, of which {step.changed} were computed")
                if not steps and number == 0:
                    say("the aggregates are up to date")
