from cli.rebuild import Difference, in_words, lines_of


def test_a_difference_is_a_table_of_counts() -> None:
    difference = Difference(
        {"equal": 3, "different": 1}, {"in both": 5, "only now": 0}, {"different": 2}
    )
    assert [line.split() for line in lines_of(difference)] == [
        ["measures", "different", "1"],
        ["measures", "equal", "3"],
        ["open", "alerts", "different", "2"],
        ["alert", "steps", "in", "both", "5"],
        ["alert", "steps", "only", "now", "0"],
    ]


def test_the_end_says_in_words_what_has_changed() -> None:
    nothing = Difference({"equal": 3, "of other instants": 1}, {"only before": 0, "only now": 0})
    assert in_words(nothing, "v2") == (
        "the running workers continue from v2, which equals what they had; nothing changed for "
        "clients"
    )
    changed = Difference(
        {"equal": 3, "different": 1}, {"only before": 2, "only now": 1}, {"different": 1}
    )
    text = in_words(changed, "v2")
    assert "of 4 portfolios, clients get another measure of 1 portfolio." in text
    assert "has 1 alert step more, and lacks 2 alert steps of the old one" in text
    assert "Clients get an event about 1 open alert" in text
    unlike = Difference({"equal": 3}, {"only before": 0, "only now": 0}, {"only now": 1})
    assert not unlike.is_none
