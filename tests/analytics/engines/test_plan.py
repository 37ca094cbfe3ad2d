import json
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from analytics.engines.plan import fingerprint_hex, main, make_plan, registered_ids
from schemas.codec import encode, versions
from tests.support.alerts import raised_alert


def test_a_table_knows_how_the_values_of_its_class_begin() -> None:
    (table,) = make_plan(["RiskAlert"], prefix="a.", ids={})["tables"]
    assert table["topic"] == "a.risk.alerts"
    assert table["reader"] == versions("RiskAlert")[-1]
    newest = table["writers"][-1]
    assert encode(raised_alert("t")).hex().startswith(newest["heads"][0])
    assert len(table["writers"]) == len(versions("RiskAlert"))


def test_ids_of_a_registry_are_heads_in_confluent_framing() -> None:
    newest = fingerprint_hex(versions("RiskAlert")[-1])
    (table,) = make_plan(["RiskAlert"], ids={newest: [258, 7]})["tables"]
    assert table["writers"][-1]["heads"][1:] == ["0000000102", "0000000007"]
    assert len(table["writers"][0]["heads"]) == 1


def test_classes_that_share_a_topic_leave_one_another_their_records() -> None:
    gap, measure = make_plan(["InputGap", "RiskMeasure"], ids={})["tables"]
    assert measure["takes_rest"]
    assert not gap["takes_rest"]
    assert measure["others"] == gap["writers"]


def test_all_events_are_tables_and_states_are_not() -> None:
    names = {table["name"] for table in make_plan([], ids={})["tables"]}
    assert {"RiskMeasure", "RiskAlert", "TrainingProgress"} <= names
    assert "PortfolioState" not in names


def test_a_registry_is_asked_for_the_ids_of_known_schemas() -> None:
    client = SchemaRegistryClient.new_client({"url": "mock://registry"})
    known = versions("RiskAlert")
    foreign = {"type": "record", "name": "Foreign", "fields": []}
    ids = [
        client.register_schema("a.risk.alerts-value", Schema(json.dumps(schema), "AVRO"))
        for schema in (foreign, *known)
    ]
    client.register_schema("risk.alerts-value", Schema(json.dumps(known[0]), "AVRO"))
    assert registered_ids(client, "a.") == {
        fingerprint_hex(schema): [schema_id]
        for schema, schema_id in zip(known, ids[1:], strict=True)
    }


def test_the_command_writes_a_plan(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    assert main(["RiskAlert", "--out", str(out)]) == 0
    assert [table["name"] for table in json.loads(out.read_text())["tables"]] == ["RiskAlert"]


def test_an_unknown_class_is_refused_with_those_that_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["Alerts", "--out", str(tmp_path / "plan.json")]) == 1
    assert "no topic carries Alerts; they carry " in capsys.readouterr().err
