"""Decides which dead letter an operator's action settles. Pure.

A topic that is deleted and made anew counts its offsets from 0 again, so that letters about
different records can have the same name, TOPIC/PARTITION/OFFSET. When Kafka appended their records
tells them apart. An action names that time in a header; one of an earlier release does not, and
settles the newest letter that was there before it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

CLOCKS_US = 10_000_000
"""How far the clocks of two brokers, which stamp letters and actions, may be apart."""


class Done(NamedTuple):
    """An action on a letter."""

    kind: str
    """`redrive` or `discard`."""
    at_us: int
    by: str
    comment: str


class LetterTimes(NamedTuple):
    """The times of a letter, in microseconds since 1970 UTC."""

    record_us: int
    """When Kafka appended the record that it is about; 0 if that is unknown."""
    letter_us: int
    """When Kafka appended the letter, the first time."""

    @property
    def order(self) -> int:
        """The place of the letter among those of its name."""
        return self.record_us or self.letter_us


class Action(NamedTuple):
    """An action on the letters of a name."""

    done: Done
    appended_us: int
    """When Kafka appended it."""
    record_us: int | None
    """Which letter it settles, as `LetterTimes.record_us`; None if it does not say."""


def first_action(
    letter: LetterTimes, namesakes: Sequence[LetterTimes], actions: Iterable[Action]
) -> Done | None:
    """Return the first action that settles a letter, or None.

    Args:
        letter: the letter.
        namesakes: all letters of its name, with itself.
        actions: the actions on its name, in their order.
    """
    for action in actions:
        if _settled(namesakes, action) == letter.record_us:
            return action.done
    return None


def _settled(letters: Sequence[LetterTimes], action: Action) -> int | None:
    """Return the time of the record whose letter an action settles."""
    if action.record_us is not None:
        return action.record_us
    # A letter is written again where its record is read again, so the first copy may have expired.
    earlier = [
        letter
        for letter in letters
        if min(letter.order, letter.letter_us) <= action.appended_us + CLOCKS_US
    ]
    if not earlier:
        return None
    return max(
        earlier, key=lambda letter: (letter.letter_us <= action.appended_us, letter.order)
    ).record_us
