"""Rows are shown as aligned text that cannot move a terminal's cursor."""

from cli.sql_answers import CELL_CHARS, table_lines


def test_numbers_stand_to_the_right_and_what_is_missing_is_a_dash() -> None:
    rows = [("a", 1, None, 0.25), ("bcd", 20, True, None)]
    assert table_lines(["name", "n", "ok", "x"], rows) == [
        "name   n  ok       x",
        "----  --  ----  ----",
        "a      1  -     0.25",
        "bcd   20  true     -",
    ]


def test_texts_are_escaped_and_long_ones_are_cut() -> None:
    *_, line = table_lines(["message"], [("\x1b[2J" + "x" * 100,)])
    assert line.startswith("\\x1b[2Jxxx")
    assert (len(line), line[-3:]) == (CELL_CHARS, "...")


def test_nested_values_are_json_and_no_rows_leave_the_names() -> None:
    assert table_lines(["tags"], [({"ü": [1]},)])[-1] == '{"ü": [1]}'
    assert table_lines(["a", "b"], []) == ["a  b", "-  -"]
