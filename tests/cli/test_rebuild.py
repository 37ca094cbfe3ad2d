from cli.rebuild import Difference, lines_of


def test_a_difference_is_a_table_of_counts() -> None:
    difference = Difference({"equal": 3, "different": 1}, {"in both": 5, "only now": 0})
    assert [line.split() for line in lines_of(difference)] == [
        ["measures", "different", "1"],
        ["measures", "equal", "3"],
        ["alert", "steps", "in", "both", "5"],
        ["alert", "steps", "only", "now", "0"],
    ]
