"""Schemas at a registry: registered once, compared, and listed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cli.errors import RegistryFailed
from cli.schemas import (
    check_answer,
    compare,
    list_answer,
    open_registry,
    register,
    register_answer,
)
from kafka_io.schema_registry import SchemaRegistry
from kafka_io.subjects import subjects
from tests.support.fake_registry import FakeRegistry, fake_registry

PREFIX = "desk."
ALERTS = "desk.risk.alerts-value"


@pytest.fixture(name="known")
def _known(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    with fake_registry() as known:
        monkeypatch.setenv("TAPEWIRE_SCHEMA_REGISTRY_URL", known.url)
        yield known


@pytest.fixture(name="registry")
def _registry(known: FakeRegistry) -> SchemaRegistry:
    assert known.url
    return open_registry()


def texts_of(registry: SchemaRegistry) -> dict[str, list[str]]:
    return {
        subject.name: [schema.text for schema in registry.registered(subject.name)]
        for subject in subjects(PREFIX)
    }


def test_all_versions_are_registered_in_their_order_and_a_second_time_changes_nothing(
    known: FakeRegistry, registry: SchemaRegistry
) -> None:
    changes = list(register(registry, PREFIX))
    assert texts_of(registry) == {subject.name: subject.texts() for subject in subjects(PREFIX)}
    assert known.levels[ALERTS] == "FULL_TRANSITIVE"
    assert known.levels["desk.risk.book_risks-value"] == "BACKWARD_TRANSITIVE"
    before = known.requests.index(f"PUT /config/{ALERTS}")
    assert before < known.requests.index(f"POST /subjects/{ALERTS}/versions"), "it is checked"
    lines = register_answer(changes).lines
    assert f"{ALERTS}: compatibility is FULL_TRANSITIVE now" in lines
    assert any(line.startswith(f"{ALERTS}: registered version 1, id ") for line in lines)
    known.requests.clear()
    again = list(register(open_registry(), PREFIX))
    assert not [change for change in again if change.registered or change.compatibility]
    assert [change.ids for change in again] == [change.ids for change in changes]
    assert not [line for line in known.requests if line.startswith("PUT") or "versions" in line]
    assert len(register_answer(again).lines) == 1
    assert compare(registry, PREFIX) == []
    assert check_answer([]).lines == [
        "the registry has all schemas, and their levels of compatibility"
    ]


def test_each_difference_is_named(known: FakeRegistry, registry: SchemaRegistry) -> None:
    list(register(registry, PREFIX))
    known.subjects[ALERTS].reverse()
    known.subjects["desk.risk.measures-value"].pop()
    del known.subjects["desk.chat.messages-value"]
    known.levels["desk.risk.limits-value"] = "NONE"
    del known.levels["desk.risk.acks-value"]
    found = {difference.subject: difference.text for difference in compare(open_registry(), PREFIX)}
    assert found == {
        ALERTS: "has the versions of RiskAlert in another order",
        "desk.risk.measures-value": "lacks version 3 of RiskMeasure",
        "desk.chat.messages-value": "does not exist",
        "desk.risk.limits-value": "has the compatibility NONE, not FULL_TRANSITIVE",
        "desk.risk.acks-value": "has the compatibility of the registry, not FULL_TRANSITIVE",
    }
    assert "5 differences" in check_answer(compare(open_registry(), PREFIX)).lines[-1]


def test_subjects_are_listed_with_their_versions(
    known: FakeRegistry, registry: SchemaRegistry
) -> None:
    list(register(registry, PREFIX))
    number, *_ = known.subjects[ALERTS]
    answer = list_answer(registry, PREFIX)
    assert f"{ALERTS}  RiskAlert  FULL_TRANSITIVE  1:{number} 2:{number + 1}" in answer.lines
    rows: list[dict[str, Any]] = json.loads(json.dumps(answer.document))
    assert next(row for row in rows if row["subject"] == ALERTS)["versions"] == [
        {"version": 1, "id": number},
        {"version": 2, "id": number + 1},
    ]


def test_a_registry_that_refuses_a_schema_or_is_away_is_named(
    known: FakeRegistry, registry: SchemaRegistry
) -> None:
    known.refused = {ALERTS}
    with pytest.raises(RegistryFailed, match=rf"of RiskAlert for the subject {ALERTS} is refused"):
        list(register(registry, PREFIX))
    known.is_away = True
    for call in (compare, list_answer, lambda *given: list(register(*given))):
        with pytest.raises(RegistryFailed, match="answers 503: away"):
            call(registry, PREFIX)


def test_without_a_registry_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegistryFailed, match="set TAPEWIRE_SCHEMA_REGISTRY_URL"):
        open_registry()
    monkeypatch.setenv("TAPEWIRE_SCHEMA_REGISTRY_URL", "registry")
    with pytest.raises(RegistryFailed, match="must begin with http"):
        open_registry()
