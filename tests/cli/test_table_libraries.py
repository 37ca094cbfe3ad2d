"""A missing library and a failed table end a command with a sentence."""

import pytest

from analytics.errors import UnknownTable
from cli.errors import AnalyticsFailed, LogFailed, NotInstalled
from cli.table_libraries import tables_or_reason
from kafka_io.errors import Unread


def test_a_missing_library_is_named_with_the_extra_that_has_it() -> None:
    with pytest.raises(NotInstalled, match=r"pip install 'tapewire\[lake\]'"), tables_or_reason():
        raise ModuleNotFoundError("no", name="pyarrow.csv")


def test_a_missing_module_of_another_kind_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError), tables_or_reason():
        raise ModuleNotFoundError("no", name="analytics.typo")


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (UnknownTable("no table x"), AnalyticsFailed),
        (Unread("no broker"), LogFailed),
        (TimeoutError(), LogFailed),
    ],
)
def test_failures_of_tables_and_of_the_log_keep_their_sentences(
    error: Exception, becomes: type[Exception]
) -> None:
    with pytest.raises(becomes, match=str(error) or "half a minute"), tables_or_reason():
        raise error
