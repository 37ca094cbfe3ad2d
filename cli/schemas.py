"""Registers the schemas of the catalogue at a schema registry, and compares the two."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cli.answers import Answer
from cli.errors import RegistryFailed
from kafka_io.errors import InvalidSetting, RegistryUnavailable, SchemaUnknown
from kafka_io.schema_registry import RegisteredSchema, SchemaRegistry, SchemaRegistrySettings
from kafka_io.subjects import Subject, subjects


class Change(NamedTuple):
    """The changes of a subject that a registration has made."""

    subject: str
    ids: Sequence[int]
    """The ids of the class's versions, oldest first."""
    registered: Sequence[int]
    """The numbers of the versions that the registry did not have."""
    compatibility: str | None
    """The level that was set; None if the subject had it."""


class Difference(NamedTuple):
    """A difference between a subject and the catalogue."""

    subject: str
    text: str


def open_registry() -> SchemaRegistry:
    """Return the registry of the settings.

    Raises:
        RegistryFailed: none is set, or the settings cannot be used.
    """
    try:
        settings = SchemaRegistrySettings()
        if settings.url is None:
            raise RegistryFailed(
                "set TAPEWIRE_SCHEMA_REGISTRY_URL to the address of a schema registry, such as "
                "https://registry.example.com"
            )
        return SchemaRegistry(settings)
    except InvalidSetting as error:
        raise RegistryFailed(str(error)) from error


def register(registry: SchemaRegistry, prefix: str) -> Iterator[Change]:
    """Register what is missing, subject by subject; what is there stays.

    A subject gets its level first, so that the registry checks each version by it.

    Raises:
        RegistryFailed: the registry refuses a schema, or does not answer.
    """
    for subject in subjects(prefix):
        try:
            level = None
            if registry.compatibility(subject.name) != subject.compatibility:
                level = subject.compatibility
                registry.set_compatibility(subject.name, level)
            ids, registered = [], []
            for number, text in enumerate(subject.texts(), 1):
                found = registry.find_id(subject.name, text)
                if found is None:
                    found = registry.register(subject.name, text)
                    registered.append(number)
                ids.append(found)
        except SchemaUnknown as error:
            raise RegistryFailed(
                f"a schema of {subject.record} for the subject {subject.name} {error}"
            ) from error
        except RegistryUnavailable as error:
            raise RegistryFailed(f"{error}; run the command again to go on") from error
        yield Change(subject.name, ids, registered, level)


def compare(registry: SchemaRegistry, prefix: str) -> Sequence[Difference]:
    """Return how the registry differs from the catalogue.

    Raises:
        RegistryFailed: the registry does not answer.
    """
    try:
        return [
            Difference(subject.name, text)
            for subject in subjects(prefix)
            for text in _differences(registry, subject)
        ]
    except RegistryUnavailable as error:
        raise RegistryFailed(str(error)) from error


def _differences(registry: SchemaRegistry, subject: Subject) -> Iterator[str]:
    registered = registry.registered(subject.name)
    if not registered:
        yield "does not exist"
        return
    level = registry.compatibility(subject.name)
    if level != subject.compatibility:
        yield f"has the compatibility {level or 'of the registry'}, not {subject.compatibility}"
    places = {schema.text: schema.version for schema in registered}
    texts = subject.texts()
    for number, text in enumerate(texts, 1):
        if text not in places and registry.find_id(subject.name, text) is None:
            yield f"lacks version {number} of {subject.record}"
    known = [places[text] for text in texts if text in places]
    if known != sorted(known):
        yield f"has the versions of {subject.record} in another order"


def register_answer(changes: Sequence[Change]) -> Answer:
    """Return what a registration has changed."""
    lines = [line for change in changes for line in _lines_of(change)]
    versions = sum(len(change.ids) for change in changes)
    done = f"{len(changes)} subjects have the {versions} versions of their schemas"
    return Answer([change._asdict() for change in changes], [*lines, done])


def _lines_of(change: Change) -> Iterator[str]:
    if change.compatibility is not None:
        yield f"{change.subject}: compatibility is {change.compatibility} now"
    for number in change.registered:
        yield f"{change.subject}: registered version {number}, id {change.ids[number - 1]}"


def check_answer(differences: Sequence[Difference]) -> Answer:
    """Return how the registry differs."""
    lines = [f"{found.subject} {found.text}" for found in differences]
    if lines:
        lines.append(f"{len(lines)} differences; `tapewire schemas register` adds what is missing")
    return Answer(
        [found._asdict() for found in differences],
        lines or ["the registry has all schemas, and their levels of compatibility"],
    )


def list_answer(registry: SchemaRegistry, prefix: str) -> Answer:
    """Return the subjects of the catalogue as the registry has them.

    Raises:
        RegistryFailed: the registry does not answer.
    """
    try:
        rows = [
            (subject, registry.compatibility(subject.name), registry.registered(subject.name))
            for subject in subjects(prefix)
        ]
    except RegistryUnavailable as error:
        raise RegistryFailed(str(error)) from error
    return Answer(
        [_row(subject, level, registered) for subject, level, registered in rows],
        [
            f"{subject.name}  {subject.record}  {level or '-'}  "
            f"{' '.join(f'{schema.version}:{schema.id}' for schema in registered) or 'none'}"
            for subject, level, registered in rows
        ],
    )


def _row(
    subject: Subject, level: str | None, registered: Sequence[RegisteredSchema]
) -> dict[str, Any]:
    return {
        "subject": subject.name,
        "record": subject.record,
        "compatibility": level,
        "versions": [{"version": schema.version, "id": schema.id} for schema in registered],
    }
