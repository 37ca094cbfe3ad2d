import pytest

from cli.errors import InvalidArgument
from cli.tenant_shares import Share
from cli.tenant_survey import Survey, check_tenant, readers_of, topics_of
from kafka_io.topic_checks import INPUTS, FoundTopic
from schemas.topics import (
    BACKTEST_COMMANDS,
    CATALOGUE,
    DEAD_LETTERS,
    NOTIFICATION_REQUESTS,
    RISK_ALERTS,
    RISK_STATE,
)


def test_the_topics_of_rebuilds_are_found_and_those_of_other_systems_are_not() -> None:
    names = [
        *("x.risk.state", "x.dead.letters", "x.unknown"),
        *("x.v2.risk.state", "x.v2.risk.alerts", "x.v2.dead.letters", "x.v2.other"),
        *("x.b.risk.state", "x.b.portfolio.returns"),  # a system with the prefix `x.b.`
        *("risk.state", "y.risk.state", "x.a.b.risk.state"),
    ]
    topics, versions = topics_of(names, "x.")
    assert versions == ["v2"]
    assert set(topics) == {
        *("x.risk.state", "x.dead.letters"),
        *("x.v2.risk.state", "x.v2.risk.alerts", "x.v2.dead.letters"),
    }
    # What the letters are about is known when the other topics are read.
    assert list(topics.values())[:2] == [DEAD_LETTERS, DEAD_LETTERS]
    assert topics["x.v2.risk.state"] is RISK_STATE


def test_each_input_has_a_group_that_reads_it() -> None:
    assert readers_of(RISK_STATE) == []
    assert readers_of(RISK_ALERTS) == ["tapewire", "tapewire-notifier"]
    assert readers_of(NOTIFICATION_REQUESTS) == ["tapewire-notifier"]
    assert readers_of(BACKTEST_COMMANDS) == ["tapewire-backtest.commands"]
    assert all(readers_of(topic) for topic in CATALOGUE if topic.name in INPUTS)


@pytest.mark.parametrize("tenant", ["", "t" * 257])
def test_what_is_no_name_of_a_tenant_is_refused(tenant: str) -> None:
    with pytest.raises(InvalidArgument, match="it must have 1 to 256"):
        check_tenant(tenant)


def test_the_answer_has_a_row_for_each_topic_that_holds_something() -> None:
    assert Survey("acme").answer().lines == ["the log holds nothing of 'acme'"]
    share = Share("x.risk.state", RISK_STATE, records=2)
    found = Survey("acme", [share], {"x.risk.state": FoundTopic(6, {})})
    answer = found.answer()
    assert answer.document["tenant"] == "acme"
    assert [row["topic"] for row in answer.document["topics"]] == ["x.risk.state"]
    assert len(answer.lines) == 1
