import pytest

from cli.letter_actions import CLOCKS_US, Action, Done, LetterTimes, first_action

S = 1_000_000
OLD = LetterTimes(100 * S, 110 * S)
NEW = LetterTimes(200 * S, 260 * S)
"""Of the same name as `OLD`, after the topic was made anew."""


def action(appended_s: float, record_us: int | None = None, kind: str = "redrive") -> Action:
    return Action(Done(kind, int(appended_s * S), "me", ""), int(appended_s * S), record_us)


@pytest.mark.parametrize(
    ("appended_s", "settled"),
    [
        (50, None),
        (120, OLD),
        (230, OLD),  # the record of the new letter is in the log, but not the letter
        (259, OLD),
        (261, NEW),
    ],
)
def test_an_action_that_names_no_letter_settles_the_newest_before_it(
    appended_s: float, settled: LetterTimes | None
) -> None:
    for letter in (OLD, NEW):
        done = first_action(letter, [OLD, NEW], [action(appended_s)])
        assert (done is not None) == (letter is settled)


def test_an_action_settles_the_letter_that_it_names() -> None:
    late = action(300, OLD.record_us, "discard")
    assert first_action(OLD, [OLD, NEW], [late]) == late.done
    assert first_action(NEW, [OLD, NEW], [late]) is None


def test_the_first_action_on_a_letter_counts() -> None:
    actions = [action(120), action(130, kind="discard"), action(270, kind="discard")]
    assert first_action(OLD, [OLD, NEW], actions) == actions[0].done
    assert first_action(NEW, [OLD, NEW], actions) == actions[2].done


def test_a_clock_behind_that_of_the_letters_broker_undoes_no_action() -> None:
    unknown = LetterTimes(0, 110 * S)
    early = action(110 - CLOCKS_US / S)
    assert first_action(unknown, [unknown], [early]) == early.done
    assert first_action(unknown, [unknown], [action(109 - CLOCKS_US / S)]) is None


def test_a_letter_whose_first_copy_has_expired_stays_settled() -> None:
    copy = OLD._replace(letter_us=900 * S)
    assert first_action(copy, [copy], [action(120)]) is not None
