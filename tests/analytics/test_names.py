"""A table is found by its own name, and by that of its class, topic or channel."""

import pytest

from analytics.errors import UnknownTable
from analytics.names import event_tables, find_table
from schemas.events import RiskAlert, RiskMeasure
from schemas.topics import RISK_ALERTS, RISK_MEASURES, TRAINING_TASKS


@pytest.mark.parametrize("name", ["risk_alert", "RiskAlert", "risk.alerts", "alerts"])
def test_a_table_has_the_names_of_its_class_its_topic_and_its_channel(name: str) -> None:
    table = find_table(name, {"alerts": RISK_ALERTS})
    assert (table.name, table.kind, table.topic) == ("risk_alert", RiskAlert, RISK_ALERTS)


def test_a_topic_of_several_classes_is_the_table_of_its_main_one() -> None:
    assert find_table("risk.measures").kind is RiskMeasure
    assert find_table("input_gap").topic is RISK_MEASURES


def test_an_unknown_name_gets_those_that_are_near() -> None:
    with pytest.raises(UnknownTable, match=r"no table risk_alerts; did you mean risk_alert or "):
        find_table("risk_alerts")
    with pytest.raises(UnknownTable, match=r"no table 12; there are .*risk_measure"):
        find_table("12")


def test_the_state_of_a_processor_has_no_table() -> None:
    with pytest.raises(UnknownTable, match="carries StoryState, the state of a processor"):
        find_table(TRAINING_TASKS.name)
    assert "story_state" not in event_tables()
