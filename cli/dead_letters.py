"""`tapewire dead-letters`: lists dead letters, writes their records again, or discards them.

A re-drive is one transaction: the record in its topic, and the action in `operator.actions`. All
operators write under one transactional id, whose newest writer fences the others, and each reads
the actions after it has opened it. So a letter is re-driven once, also by two operators at the same
time, and after a command that was interrupted.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from cli.errors import LogFailed, NotRedriven, UnknownLetter
from cli.letter_actions import Action, Done, LetterTimes, first_action
from cli.record_json import describe, json_of, text_of
from cli.redrive import Home, Original, check_original, records_of, topic_of_letter
from kafka_io.clock import now_us
from kafka_io.dead_letters import log_time_us
from kafka_io.errors import Fenced, InvalidReport, ProducerError
from kafka_io.log_lines import escaped
from kafka_io.operators import operator
from kafka_io.publisher import outgoing_record
from kafka_io.reader import read_between, stream_records
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.transactions import OutgoingRecord, TransactionalWriter, open_writer
from schemas.errors import Refused
from schemas.events import DeadLetter, OperatorAction, OperatorActionKind
from schemas.gate import admit_or_none
from schemas.headers import LETTER_TIME, ORIGIN
from schemas.instants import to_rfc3339
from schemas.topics import DEAD_LETTERS, OPERATOR_ACTIONS

_GROUP = "tapewire-operator"
_TRANSACTION_S = 30.0
_OPEN_S = 20.0
_ERROR_CHARS = 160


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, and what was done with it."""

    letter: DeadLetter
    at_us: int
    """When it was written, the first time."""
    done: Done | None = None
    namesakes: Sequence[LetterTimes] = ()
    """The times of all letters of its name, if there are several."""

    @property
    def times(self) -> LetterTimes:
        """The times, which tell the letter from others of its name."""
        return LetterTimes(self.letter.event_time_us, self.at_us)

    @property
    def is_newest(self) -> bool:
        """Whether no other letter of its name is about a newer record."""
        return all(other.order <= self.times.order for other in self.namesakes)

    @property
    def state(self) -> str:
        """`open`, `redriven` or `discarded`."""
        if self.done is None:
            return "open"
        return "redriven" if self.done.kind == OperatorActionKind.REDRIVE else "discarded"


class Choice(NamedTuple):
    """A choice of letters."""

    ids: Sequence[str] = ()
    """The letters' names; empty for all letters that match the other fields."""
    topic: str | None = None
    """The topic of the record, with or without the system's prefix."""
    reason: str | None = None
    state: str | None = None

    def names(self, letter: DeadLetter, prefix: str) -> bool:
        """Return whether the choice includes letters of a letter's name, in some state."""
        if self.ids:
            return letter.letter_id in self.ids
        return self.topic in (None, letter.topic, letter.topic.removeprefix(prefix))

    def includes(self, letter: Letter) -> bool:
        """Return whether the choice includes a letter whose name it includes."""
        has_reason = bool(self.ids) or self.reason in (None, letter.letter.reason)
        return has_reason and self.state in (None, letter.state)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a re-drive or a discard of a letter."""

    letter_id: str
    is_done: bool
    """Whether this call re-drove or discarded the letter."""
    is_settled: bool
    """Whether the letter is re-driven or discarded, by this call or an earlier one."""
    text: str


async def read_letters(
    settings: ProducerSettings,
    choice: Choice,
    *,
    since_ms: int | None = None,
    newest: int | None = None,
) -> list[Letter]:
    """Return letters in the order in which they were written, each once.

    Args:
        settings: where Kafka is.
        choice: the letters to return.
        since_ms: the earliest time of their writing, in milliseconds since 1970 UTC.
        newest: the most letters of each partition that are looked at.

    Raises:
        UnknownLetter: there is no letter of a name.
        LogFailed: Kafka cannot be read.
    """
    found: defaultdict[str, dict[int, Letter]] = defaultdict(dict)
    with _log_failures():
        actions = await read_actions(settings)
        name = settings.topic_prefix + DEAD_LETTERS.name
        async for record in stream_records(name, settings, since_ms=since_ms, newest=newest):
            letter = admit_or_none(DeadLetter, record.value)
            if letter is not None and choice.names(letter, settings.topic_prefix):
                same = found[letter.letter_id]
                known = Letter(letter, log_time_us(record))
                before = same.setdefault(letter.event_time_us, known)
                if known.at_us < before.at_us:
                    same[letter.event_time_us] = known
    missing = [name for name in choice.ids if name not in found]
    if missing:
        raise UnknownLetter(
            f"there is no dead letter {missing[0]}; `tapewire dead-letters list` names them, as "
            "TOPIC/PARTITION/OFFSET, with /INDEX of a part of the record"
        )
    settled = [
        letter
        for name, same in found.items()
        for letter in _settled(tuple(same.values()), actions.get(name, ()))
    ]
    return sorted(filter(choice.includes, settled), key=lambda letter: letter.at_us)


def _settled(letters: Sequence[Letter], actions: Sequence[Action]) -> Sequence[Letter]:
    """Return the letters of one name, each with the first action on it."""
    times = tuple(letter.times for letter in letters)
    return [
        replace(
            letter,
            done=first_action(letter.times, times, actions),
            namesakes=times if len(times) > 1 else (),
        )
        for letter in letters
    ]


async def read_actions(settings: ProducerSettings) -> Mapping[str, Sequence[Action]]:
    """Return the actions on letters, in their order, by the letters' names."""
    found: defaultdict[str, list[Action]] = defaultdict(list)
    name = settings.topic_prefix + OPERATOR_ACTIONS.name
    async for record in stream_records(name, settings):
        action = admit_or_none(OperatorAction, record.value)
        kinds = (OperatorActionKind.REDRIVE, OperatorActionKind.DISCARD)
        if action is not None and action.action in kinds:
            headers = dict(record.headers)
            by = action.by or headers.get(ORIGIN, b"").decode(errors="replace")
            done = Done(action.action, action.event_time_us, by, action.comment)
            about = headers.get(LETTER_TIME, b"")
            found[action.subject].append(
                Action(
                    done,
                    log_time_us(record) or action.event_time_us,
                    int(about) if about.isdigit() else None,
                )
            )
    return found


async def find_original(letter: DeadLetter, settings: ProducerSettings) -> Original | None:
    """Return the record of a letter, if the log has one at its offset."""
    offsets = range(letter.offset, letter.offset + 1)
    read = partial(read_between, letter.topic, letter.partition, offsets, settings)
    found, logged = await read(), await read(resolves=False)
    return Original(found[0], logged[0].value) if found and logged else None


async def _find_home(letter: DeadLetter, settings: ProducerSettings) -> Home:
    """Return the topic of a letter's record.

    Raises:
        NotRedriven: nobody reads the topic, or it has not got the letter's partition any more.
    """
    topic = topic_of_letter(letter, settings.topic_prefix)
    admin = TopicAdmin(settings.bootstrap_servers)
    found = (await asyncio.to_thread(admin.describe, [letter.topic])).get(letter.topic)
    if found is None:
        raise NotRedriven(f"there is no topic {letter.topic} any more, so its record is lost")
    if letter.partition >= found.partitions:
        raise NotRedriven(
            f"{letter.topic} has no partition {letter.partition} any more, but "
            f"{found.partitions}: it was made anew, and the record is lost"
        )
    return Home(topic, letter.topic, found.partitions)


def _newest(known: Letter) -> DeadLetter:
    """Return a letter whose record can still be in the log.

    Raises:
        NotRedriven: the letter's topic was made anew.
    """
    letter = known.letter
    if not known.is_newest:
        raise NotRedriven(
            f"{letter.topic} was made anew, and a newer letter has the same name; the record of "
            f"{to_rfc3339(letter.event_time_us)} is lost. Discard this letter"
        )
    return letter


async def redrive(
    settings: ProducerSettings,
    letters: Sequence[Letter],
    comment: str,
    report: Callable[[Outcome], None],
) -> bool:
    """Write the records of letters again, each at most once, and return whether all are settled.

    Args:
        settings: where Kafka is.
        letters: the letters.
        comment: why.
        report: receives the outcome of each letter.

    Raises:
        LogFailed: Kafka could not be read or written; what was reported before is done.
    """

    async def records(known: Letter) -> Sequence[OutgoingRecord]:
        letter = _newest(known)
        home = await _find_home(letter, settings)
        original = check_original(letter, await find_original(letter, settings))
        return records_of(letter, original, home, now_us(), settings.ahead_s * 1_000_000)

    return await _settle(settings, letters, OperatorActionKind.REDRIVE, comment, report, records)


async def discard(
    settings: ProducerSettings,
    letters: Sequence[Letter],
    comment: str,
    report: Callable[[Outcome], None],
) -> bool:
    """Set letters aside for good, and return whether all are settled; see `redrive`."""

    async def none(_: Letter) -> Sequence[OutgoingRecord]:
        return ()

    return await _settle(settings, letters, OperatorActionKind.DISCARD, comment, report, none)


async def _settle(
    settings: ProducerSettings,
    letters: Sequence[Letter],
    kind: OperatorActionKind,
    comment: str,
    report: Callable[[Outcome], None],
    records: Callable[[Letter], Any],
) -> bool:
    all_settled = True
    with _log_failures():
        async with _only_writer(settings) as writer:
            actions = await read_actions(settings)
            for known in letters:
                letter = known.letter
                done = actions.get(letter.letter_id, ())
                before = first_action(known.times, known.namesakes or (known.times,), done)
                if before is not None:
                    text = f"nothing to do: it was {_past(before.kind)} at {_when(before)}"
                    report(Outcome(letter.letter_id, False, before.kind == kind, text))  # noqa: FBT003  # fields in order
                    all_settled &= before.kind == kind
                    continue
                try:
                    made = await records(known)
                except NotRedriven as error:
                    report(Outcome(letter.letter_id, False, False, str(error)))  # noqa: FBT003  # fields in order
                    all_settled = False
                    continue
                await writer.commit([*made, _action(settings, letter, kind, comment)], {})
                places = sorted({f"{record.topic}/{record.partition}" for record in made})
                where = f" to {', '.join(places)}" if places else ""
                report(Outcome(letter.letter_id, True, True, f"{_past(kind)}{where}"))  # noqa: FBT003  # fields in order
    return all_settled


@asynccontextmanager
async def _only_writer(settings: ProducerSettings) -> AsyncGenerator[TransactionalWriter]:
    group = settings.topic_prefix + _GROUP
    async with open_writer(
        settings.bootstrap_servers,
        f"{group}-0",
        group,
        timeout_s=_TRANSACTION_S,
        within_s=_OPEN_S,
    ) as writer:
        yield writer


def _action(
    settings: ProducerSettings, letter: DeadLetter, kind: OperatorActionKind, comment: str
) -> OutgoingRecord:
    action = OperatorAction(
        action=kind, subject=letter.letter_id, comment=comment, event_time_us=now_us()
    )
    record = outgoing_record(action, settings, partition=0, origin=operator())
    about = (LETTER_TIME, str(letter.event_time_us).encode())
    return record._replace(headers=[*record.headers, about])


@contextmanager
def _log_failures() -> Generator[None]:
    """Turn errors of Kafka into `LogFailed`."""
    try:
        yield
    except Fenced as error:
        raise LogFailed(
            "another operator re-drives or discards at this time; run the command again"
        ) from error
    except InvalidReport as error:
        raise LogFailed(str(error)) from error
    except (ProducerError, TimeoutError) as error:
        raise LogFailed(
            f"Kafka did not do it: {str(error) or 'it has not answered in time'}; run the command "
            "again: what is done is not done twice"
        ) from error


def _past(kind: str) -> str:
    return "re-driven" if kind == OperatorActionKind.REDRIVE else "discarded"


def _when(done: Done) -> str:
    why = f": {done.comment}" if done.comment else ""
    return f"{to_rfc3339(done.at_us)} by {done.by or 'somebody'}{why}"


def as_json(known: Letter) -> dict[str, Any]:
    """Return a letter for a program."""
    letter = json_of(known.letter)
    for name in ("key", "value", "key_sha256", "value_sha256"):
        value = getattr(known.letter, name)
        is_digest = name.endswith("sha256")
        letter[name] = value.hex() if is_digest and value is not None else text_of(value)
    done = None
    if known.done is not None:
        done = {**known.done._asdict(), "at": to_rfc3339(known.done.at_us)}
        del done["at_us"]
    return {
        "id": known.letter.letter_id,
        "at": to_rfc3339(known.at_us),
        "state": known.state,
        "done": done,
        **letter,
    }


def lines_of(letters: Collection[Letter]) -> list[str]:
    """Return a line for each letter."""
    return [
        escaped(
            f"{to_rfc3339(known.at_us)}  {known.state:<9}  {known.letter.reason:<17}  "
            f"{known.letter.letter_id}  {known.letter.error[:_ERROR_CHARS]}"
        )
        for known in letters
    ] or ["no dead letters"]


async def show(settings: ProducerSettings, known: Letter) -> dict[str, Any]:
    """Return a letter with its record in the log, and whether it could be written again now.

    Raises:
        LogFailed: Kafka cannot be read.
    """
    described = as_json(known) | {"original": None, "can_be_redriven": False, "why_not": None}
    with _log_failures():
        try:
            letter = _newest(known)
            home = await _find_home(letter, settings)
            original = check_original(letter, await find_original(letter, settings))
            described["original"] = describe(original)
            records_of(letter, original, home, now_us(), settings.ahead_s * 1_000_000)
        except (NotRedriven, Refused) as error:
            described["why_not"] = str(error)
        else:
            described["can_be_redriven"] = known.done is None
            if known.done is not None:
                described["why_not"] = f"it was {_past(known.done.kind)} at {_when(known.done)}"
    return described
