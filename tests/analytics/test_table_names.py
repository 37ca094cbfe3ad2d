"""Which classes are events, and what their tables are called."""

from analytics.table_names import is_event, table_name
from schemas.events import BookRisk, PortfolioState, RiskAlert, RiskMeasure


def test_records_with_a_time_of_what_happened_are_events_and_states_are_none() -> None:
    assert all(map(is_event, (RiskAlert, RiskMeasure, BookRisk)))
    assert not is_event(PortfolioState)


def test_a_table_has_the_name_of_its_class_in_small_letters() -> None:
    assert table_name(RiskAlert) == "risk_alert"
