import pytest

from cli import tenant_erasure
from cli.errors import ErasureRefused, LogFailed
from cli.tenant_erasure import answer_of, erase, groups_of, running_text, writings_of
from cli.tenant_shares import Share
from cli.tenant_survey import Survey
from kafka_io.errors import Fenced
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import GroupMember
from kafka_io.topic_checks import FoundTopic
from schemas.topics import NOTIFICATION_QUEUES, PORTFOLIO_RETURNS, RISK_ALERTS, RISK_STATE, Topic

SETTINGS = ProducerSettings(bootstrap_servers="localhost:1", topic_prefix="x.")


def share(topic: Topic, name: str = "", *keys: tuple[int, bytes]) -> Share:
    rows = dict.fromkeys(keys, True)
    return Share(name or f"x.{topic.name}", topic, records=2, newest_ms=0, rows=rows)


def survey_of(*shares: Share) -> Survey:
    return Survey("acme", shares, {share.name: FoundTopic(6, {}) for share in shares})


def test_each_row_is_deleted_by_the_writer_of_its_states() -> None:
    found = survey_of(
        share(RISK_STATE, "", (0, b"a"), (0, b"b"), (3, b"c")),
        share(RISK_STATE, "x.v2.risk.state", (0, b"d")),
        share(NOTIFICATION_QUEUES, "", (1, b"e")),
        share(PORTFOLIO_RETURNS),
    )
    writings = writings_of(found, "x.")
    assert [(writing.group, writing.number) for writing in writings] == [
        ("x.tapewire", 0),
        ("x.tapewire", 3),
        ("x.tapewire-notifier", 1),
        ("x.v2.tapewire", 0),
    ]
    records = [record for writing in writings for record in writing.records]
    assert [(record.topic, record.key, record.partition) for record in records] == [
        ("x.risk.state", b"a", 0),
        ("x.risk.state", b"b", 0),
        ("x.risk.state", b"c", 3),
        ("x.notification.queues", b"e", 1),
        ("x.v2.risk.state", b"d", 0),
    ]
    assert {record.value for record in records} == {None}


def test_a_key_of_which_only_a_tombstone_is_left_gets_no_further_one() -> None:
    of_topic = share(RISK_STATE, "", (0, b"a"), (0, b"b"))
    of_topic.rows[0, b"b"] = False
    [writing] = writings_of(survey_of(of_topic), "x.")
    assert [record.key for record in writing.records] == [b"a"]
    assert answer_of(survey_of(of_topic), 5, is_dry=False).document["rows"] == 1


def test_many_rows_are_deleted_in_several_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_erasure, "_CHUNK", 2)
    found = survey_of(share(RISK_STATE, "", *((0, bytes([key])) for key in range(5))))
    assert [len(writing.records) for writing in writings_of(found, "x.")] == [2, 2, 1]


def test_the_members_that_live_are_named() -> None:
    groups = groups_of(["v2"], "x.")
    assert groups == [
        "x.tapewire",
        "x.tapewire-notifier",
        "x.tapewire-training.commands",
        "x.tapewire-backtest.commands",
        "x.tapewire-agent.commands",
        "x.v2.tapewire",
    ]
    assert running_text(dict.fromkeys(groups, ())) is None
    text = running_text(
        {"x.tapewire": [GroupMember("worker-a", "tapewire 1"), GroupMember("b", "")]}
    )
    assert text is not None
    assert "x.tapewire: b\n" in text
    assert "x.tapewire: worker-a (tapewire 1)\n" in text


def test_the_answer_says_of_each_topic_what_becomes_of_it() -> None:
    found = survey_of(
        share(RISK_STATE, "", (0, b"a")), share(RISK_ALERTS), share(PORTFOLIO_RETURNS)
    )
    answer = answer_of(found, 5, is_dry=False)
    fates = {row["topic"]: row["fate"] for row in answer.document["topics"]}
    assert fates == {
        "x.risk.state": "erased",
        "x.risk.alerts": "remains",
        "x.portfolio.returns": "kept_for_ever",
    }
    assert (answer.document["erased"], answer.document["rows"]) == (True, 1)
    assert "restart the edges" in answer.lines[-1]
    dry = answer_of(found, 5, is_dry=True)
    assert not dry.document["erased"]
    assert dry.lines[0] == "nothing was written; it would be:"
    assert "holds nothing of 'acme'" in answer_of(survey_of(), 5, is_dry=False).lines[0]


async def test_without_the_name_once_more_nothing_is_read_or_written() -> None:
    for confirmed in (None, "acm"):
        with pytest.raises(ErasureRefused, match="give --confirm acme to agree, or --dry-run"):
            await erase(SETTINGS, "acme", confirmed)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let nothing run, and note what is done."""
    done: list[str] = []

    async def passed(*_: object) -> None:
        done.append("passed")

    monkeypatch.setattr(tenant_erasure, "_refuse_running", passed)
    return done


async def test_records_that_are_not_processed_yet_are_named(
    monkeypatch: pytest.MonkeyPatch, quiet: list[str]
) -> None:
    waiting = share(PORTFOLIO_RETURNS)
    waiting.unread = {"x.tapewire": 7}

    async def survey(*_: object) -> Survey:
        return survey_of(waiting)

    monkeypatch.setattr(tenant_erasure, "survey", survey)
    with pytest.raises(ErasureRefused, match=r"x\.portfolio\.returns: 7 by x\.tapewire"):
        await erase(SETTINGS, "acme", "acme")
    assert quiet == ["passed"]
    assert not (await erase(SETTINGS, "acme", None, is_dry=True)).document["erased"]


async def test_a_failure_says_that_the_command_is_run_again(
    monkeypatch: pytest.MonkeyPatch, quiet: list[str]
) -> None:
    async def survey(*_: object) -> Survey:
        return survey_of(share(RISK_STATE, "", (0, b"a")))

    async def note(*_: object) -> None:
        quiet.append("noted")

    async def fail(*_: object) -> None:
        raise Fenced("another worker")

    for name, double in (("survey", survey), ("_note", note), ("_write", fail)):
        monkeypatch.setattr(tenant_erasure, name, double)
    with pytest.raises(LogFailed, match=r"another worker.*run `tapewire tenant erase` again"):
        await erase(SETTINGS, "acme", "acme")
    assert quiet == ["passed", "passed", "noted"]
