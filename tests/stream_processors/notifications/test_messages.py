"""The bodies of messages, as their receivers expect them."""

import json
from email import message_from_bytes
from email.policy import default

from stream_processors.notifications.messages import (
    OutgoingMessage,
    email,
    push_body,
    slack_body,
    teams_body,
    webhook_body,
)
from tests.stream_processors.notifications.conftest import note

ONE = OutgoingMessage("m-1", "desk", "acme", [note(1, text="p: VaR exceeded threshold")])
MANY = OutgoingMessage(
    "m-2",
    "desk",
    None,
    [note(1), note(2, state="cleared"), *(note(n, severity="critical") for n in range(3, 40))],
    left_out=5,
)


def test_a_message_of_one_is_its_text_and_a_digest_is_a_list() -> None:
    assert ONE.text == ONE.title == "[high] p: VaR exceeded threshold"
    lines = MANY.text.splitlines()
    assert lines[:3] == ["[critical] 44 events", "- note 1", "- resolved: note 2"]
    assert lines[-1] == "and 24 more"
    assert len(lines) == 22


def test_programs_get_all_notes() -> None:
    body = json.loads(webhook_body(MANY))
    assert (body["id"], body["route"], body["tenant"]) == ("m-2", "desk", None)
    assert (body["count"], len(body["events"]), body["severity"]) == (44, 39, "critical")
    assert body["events"][0] == {
        "id": "n1",
        "subject": "alerts",
        "entity_id": "p",
        "episode": "a",
        "state": "raised",
        "severity": "high",
        "text": "note 1",
        "time": "2025-11-24T16:00:00Z",
        "metric_name": None,
        "metric_value": None,
        "threshold": None,
    }


def test_a_chat_shows_names_as_text() -> None:
    named = OutgoingMessage("m", "desk", None, [note(text="<!channel> & <@U1>")])
    body = json.loads(slack_body(named))
    assert body["text"] == "[high] &lt;!channel&gt; &amp; &lt;@U1&gt;"
    assert body["blocks"][0]["text"] == {"type": "mrkdwn", "text": body["text"]}
    (card,) = json.loads(teams_body(MANY))["attachments"]
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["content"]["body"][0]["text"] == "[critical] 44 events"
    assert len(card["content"]["body"]) == 22


def test_an_email_has_one_recipient_line_and_no_header_from_a_name() -> None:
    named = OutgoingMessage("m", "desk", None, [note(text="p\r\nBcc: eve@example.com")])
    mail = email(named, "Tapewire <t@example.com>", ["a@example.com", "b@example.com"])
    read = message_from_bytes(mail.as_bytes(), policy=default)
    assert read["To"] == "a@example.com, b@example.com"
    assert read["Bcc"] is None
    assert read["Subject"] == "[high] p Bcc: eve@example.com"
    assert read["Message-ID"] == "<m@tapewire>"


def test_a_push_message_fits_in_a_record_of_a_push_service() -> None:
    for letter in ("é", "\U0001f600", "\x01"):
        for count in (1, 100):
            notes = [note(n, text=letter * 500) for n in range(count)]
            assert len(push_body(OutgoingMessage("m" * 36, "desk", None, notes))) < 4_096 - 200
    assert json.loads(push_body(MANY))["title"] == f"[critical] {MANY.count} events"


def test_a_message_in_teams_is_no_larger_than_teams_takes() -> None:
    for letter in ("\U0001f600", "a\n"):
        notes = [note(n, text=letter * (500 // len(letter))) for n in range(100)]
        assert len(teams_body(OutgoingMessage("m", "desk", None, notes))) < 28_000


def test_a_line_break_in_a_text_makes_no_line_of_its_own() -> None:
    notes = [note(1, text="p\n- [critical] another"), note(2)]
    text = OutgoingMessage("m", "desk", None, notes).text
    assert text.splitlines() == ["[high] 2 events", "- p - [critical] another", "- note 2"]
