"""The commands of one partition that a worker has fetched: which are begun, and which are done.

Commands of a partition may end in any order. The group commits the offset of the oldest command
that is not done, and its metadata says what became of the commands from there on. So the next
worker neither forgets nor repeats any. The metadata has words, separated by spaces:

    1/3       the oldest command has been begun 3 times, and was handed over once
    +5:0/1    so has the command 5 offsets later
    !1a0      a bitmap in hexadecimal: the commands 5, 7 and 8 offsets later are done

Earlier versions know the first word only. Pure.
"""

import re
from typing import NamedTuple

OFFSETS_MAX = 1_000
"""The offsets from the oldest command on within which commands are begun, roughly."""
_TEXT_CHARS_MAX = 4_000
"""Kafka takes 4,096 bytes."""
_BITS_MAX = 8_000
"""The offsets that a bitmap is about; offsets that no command has may lie between two commands."""

_ATTEMPTS = re.compile(r"([0-9]{1,9})(?:/([0-9]{1,9}))?")
_LATER = re.compile(r"\+([0-9]{1,9}):([0-9/]+)")
_DONE = re.compile(r"!([0-9a-f]{1,2000})")


class Attempts(NamedTuple):
    """The number of earlier attempts at a command, and how they ended."""

    handovers: int = 0
    """Attempts that ended since their workers were asked to stop, or could not reach Kafka."""
    begun: int = 0
    """All attempts."""

    @property
    def lost(self) -> int:
        """Attempts whose workers were lost."""
        return max(0, self.begun - self.handovers)

    @property
    def text(self) -> str:
        """The attempts as the metadata has them."""
        return f"{self.handovers}/{self.begun}"

    @classmethod
    def parse(cls, text: str) -> "Attempts":
        """Return what a text says; earlier versions count handovers only."""
        found = _ATTEMPTS.fullmatch(text)
        return cls() if found is None else cls(int(found[1]), int(found[2] or found[1]))


class CommandWindow:
    """The commands of a partition from the oldest on that is not done."""

    def __init__(self, offset: int, text: str = "") -> None:
        """Continue where the last worker was.

        Args:
            offset: the committed offset.
            text: its metadata.
        """
        self._next = offset
        """The offset after the last one that was fetched."""
        self._open: set[int] = set()
        """The fetched commands that are not done."""
        self._taken: set[int] = set()
        """Those of them that are in progress, or about to begin."""
        self._done: set[int] = set()
        self._attempts: dict[int, Attempts] = {}
        for number, word in enumerate(text.split(" ")):
            if number == 0:
                self._attempts[offset] = Attempts.parse(word)
            elif (found := _LATER.fullmatch(word)) is not None:
                self._attempts[offset + int(found[1])] = Attempts.parse(found[2])
            elif (found := _DONE.fullmatch(word)) is not None:
                bits = int(found[1], 16)
                self._done |= {offset + at for at in range(bits.bit_length()) if bits >> at & 1}

    @property
    def oldest(self) -> int:
        """The offset of the oldest command that is not done."""
        return min(self._open, default=self._next)

    @property
    def is_full(self) -> bool:
        """Whether no more commands should be fetched now."""
        return self._next - self.oldest >= OFFSETS_MAX

    def fetched(self, offset: int) -> bool:
        """Note that a command was fetched, perhaps again; return whether it waits to be begun."""
        is_done = offset < self.oldest or offset in self._done
        self._next = max(self._next, offset + 1)
        if not is_done:
            self._open.add(offset)
        return not is_done and offset not in self._taken

    def take(self, offset: int) -> None:
        """Note that a command is about to begin."""
        self._taken.add(offset)

    def attempts(self, offset: int) -> Attempts:
        """Return the attempts at a command."""
        return self._attempts.get(offset, Attempts())

    def begin(self, offset: int) -> Attempts:
        """Begin a command; return the earlier attempts at it."""
        earlier = self.attempts(offset)
        self._attempts[offset] = earlier._replace(begun=earlier.begun + 1)
        return earlier

    def hand_over(self, offset: int) -> None:
        """Note that an attempt at a command ends in order, for another worker to begin it again."""
        attempts = self.attempts(offset)
        self._attempts[offset] = attempts._replace(handovers=attempts.handovers + 1)

    def finish(self, offset: int) -> None:
        """Note that a command is done."""
        self._open.discard(offset)
        self._taken.discard(offset)
        self._done.add(offset)
        self._attempts.pop(offset, None)
        oldest = self.oldest
        self._done = {known for known in self._done if known > oldest}
        self._attempts = {at: known for at, known in self._attempts.items() if at >= oldest}

    @property
    def committable(self) -> tuple[int, str]:
        """The offset to commit, and its metadata."""
        oldest = self.oldest
        done = sum(1 << known - oldest for known in self._done if 0 < known - oldest < _BITS_MAX)
        last = f" !{done:x}" if done else ""
        text = self.attempts(oldest).text
        for offset in sorted(self._attempts):
            word = f" +{offset - oldest}:{self._attempts[offset].text}"
            if offset > oldest and len(text) + len(word) + len(last) <= _TEXT_CHARS_MAX:
                text += word
        return oldest, "" if text + last == "0/0" else text + last
