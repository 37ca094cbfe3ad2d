import json

import pytest

from cli.answers import Answer
from cli.console import print_answer, print_message


def test_an_answer_is_a_document_or_lines(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer({"created": ["a"]}, ["1 topics were created"])
    print_answer(answer, json=True)
    assert json.loads(capsys.readouterr().out) == {"created": ["a"]}
    print_answer(answer, json=False)
    assert capsys.readouterr().out == "1 topics were created\n"


def test_a_message_is_an_object_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_message("\nopen http://localhost:8000   (Ctrl-C stops)\n")
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    shown = json.loads(text)
    assert shown["message"] == "open http://localhost:8000   (Ctrl-C stops)"
    assert shown["at"].endswith("Z")
