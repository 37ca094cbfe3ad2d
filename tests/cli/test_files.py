"""Files of commands: whatever they are, a command ends with a sentence, and waits for none."""

import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from typer.testing import CliRunner

from cli import files
from cli.app import cli
from cli.errors import InvalidArgument
from cli.files import BYTES_MAX, parse_object, read_object

SURROGATE = b'{"a": "\\ud800"}'
BAD = {
    "empty": (b"", "the book is no JSON"),
    "no JSON": (b"{", "the book is no JSON"),
    "no UTF-8": (b'{"a": "\xff"}', "no UTF-8 text: byte 8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "no UTF-8 text"),
    "NaN": (b'{"a": NaN}', "NaN is no number"),
    "infinite": (b'{"a": -Infinity}', "-Infinity is no number"),
    "too large": (b'{"a": 1e999}', "1e999 is too large for a number"),
    "a long number": (b'{"a": ' + b"9" * 5_000 + b"}", "the book is no JSON"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "deep objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
    "half a character": (SURROGATE, "half a character"),
    "a list": (b"[]", "no JSON object"),
    "a number": (b"7", "no JSON object"),
    "null": (b"null", "no JSON object"),
    "zeros": (bytes(1000), "the book is no JSON"),
    "huge": (b" " * (BYTES_MAX + 1), "has more than 1,048,576 bytes"),
}


def put(name: str, **options: str) -> tuple[int, str]:
    arguments = ["books", "put", "firm/tech", name, "--url", "http://localhost:1"]
    result = CliRunner().invoke(cli, arguments, **options)  # type: ignore[arg-type]
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_ends_a_command_with_a_sentence(name: str, tmp_path: Path) -> None:
    content, reason = BAD[name]
    path = tmp_path / "book.json"
    path.write_bytes(content)
    code, text = put(str(path))
    assert code == 1
    assert text.startswith("tapewire: ")
    assert reason in text
    assert len(text) < 500


def a_folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    del path


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def no_rights(path: Path) -> None:
    path.symlink_to("/proc/1/mem")  # nobody reads its beginning


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (a_folder, "is a folder; name a file"),
        (nothing, "cannot be read: No such file or directory"),
        (a_loop, "cannot be read: "),
        (no_rights, "cannot be read: "),
        (os.mkfifo, "nobody has written to"),
        (lambda path: path.symlink_to("/dev/zero"), "is no file; name a file or a pipe"),
    ],
)
def test_what_is_no_file_ends_a_command_with_a_sentence(
    make: Callable[[Path], object],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "SILENCE_S", 0.05)
    path = tmp_path / "book.json"
    make(path)
    code, text = put(str(path))
    assert code == 1
    assert text.startswith("tapewire: ")
    assert reason in text


@pytest.mark.parametrize("name", ["", "a" * 5_000, "a\0b"])
def test_a_name_that_no_file_has_cannot_be_read(name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_object(name, "the book")


def test_a_pipe_is_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        with path.open("w", encoding="utf-8") as pipe:
            pipe.write('{"a":')
            pipe.flush()
            pipe.write(" 1}")

    writing = threading.Thread(target=write)
    writing.start()
    assert read_object(str(path), "the book") == {"a": 1}
    writing.join()


def test_the_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def given_text(text: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))

    given_text(b'\xef\xbb\xbf{"a": 1}')  # with a mark of the byte order, as some editors write
    assert read_object("-", "the book") == {"a": 1}
    given_text(b" " * (BYTES_MAX + 1))
    with pytest.raises(InvalidArgument, match="the standard input has more than"):
        read_object("-", "the book")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_object_that_can_be_sent_or_an_error_with_a_reason(data: bytes) -> None:
    try:
        found = parse_object(data, "the book")
    except InvalidArgument as error:
        found, reason = {}, str(error)
    else:
        reason = "the book can be sent"
    assert reason.startswith("the book ")
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
