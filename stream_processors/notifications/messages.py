"""The messages of notifications, in the form of each destination. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from schemas.events import AlertTransition, Note, Severity
from schemas.instants import to_rfc3339

_LISTED_MAX = 20
"""The most notes in a text for people; the data for programs have all."""
_PUSH_CHARS_MAX = 500
"""A push message has at most 4,096 bytes, encrypted; in JSON a character can take six."""
_TEAMS_BYTES_MAX = 20_000
"""Teams takes messages of at most 28 KB."""
_ORDER = list(Severity)
REMINDER = "reminder"
"""The state in a note that reminds of an alert."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message of a route."""

    message_id: str
    route: str
    tenant: str | None
    notes: Sequence[Note]
    left_out: int = 0
    """How many more events it stands for."""
    is_retry: bool = False
    """Whether an earlier attempt to send it has failed."""

    @property
    def count(self) -> int:
        """The number of events that it tells of."""
        return len(self.notes) + self.left_out

    @property
    def severity(self) -> str:
        """The highest severity of its notes."""
        known = [note.severity for note in self.notes if note.severity in _ORDER]
        return max(known, key=lambda word: _ORDER.index(Severity(word)), default=Severity.LOW)

    @property
    def title(self) -> str:
        """One line that says what has happened."""
        if self.count == 1:
            return f"[{self.severity}] {_line(self.notes[0])}"
        return f"[{self.severity}] {self.count} events"

    @property
    def text(self) -> str:
        """The title, and a line for each note of a digest."""
        if self.count == 1:
            return self.title
        listed = [f"- {_line(note)}" for note in self.notes[:_LISTED_MAX]]
        more = self.count - len(listed)
        return "\n".join([self.title, *listed, *([f"and {more} more"] if more else [])])


def webhook_body(message: OutgoingMessage) -> bytes:
    """Return the JSON for programs: the message and all its notes."""
    return _encoded(
        {
            "id": message.message_id,
            "type": "tapewire.notification",
            "route": message.route,
            "tenant": message.tenant,
            "severity": message.severity,
            "title": message.title,
            "text": message.text,
            "count": message.count,
            "events": [_shown(note) for note in message.notes],
        }
    )


def slack_body(message: OutgoingMessage) -> bytes:
    """Return the JSON of Slack's incoming webhooks."""
    text = message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    block = {"type": "section", "text": {"type": "mrkdwn", "text": text[:3_000]}}
    return _encoded({"text": text[:3_000], "blocks": [block]})


def teams_body(message: OutgoingMessage) -> bytes:
    """Return the JSON of Microsoft Teams' webhooks: a message with an Adaptive Card."""
    lines = message.text.encode()[:_TEAMS_BYTES_MAX].decode(errors="ignore").splitlines()
    body: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": lines[0], "weight": "bolder", "wrap": True},
        *({"type": "TextBlock", "text": line, "wrap": True} for line in lines[1:]),
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return _encoded({"type": "message", "attachments": [attachment]})


def push_body(message: OutgoingMessage) -> bytes:
    """Return the JSON that a page's service worker gets."""
    return _encoded(
        {
            "id": message.message_id,
            "title": message.title[:100],
            "body": message.text[:_PUSH_CHARS_MAX],
            "severity": message.severity,
        }
    )


def email(message: OutgoingMessage, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """Return an e-mail. Line breaks in names cannot become headers: the class refuses them."""
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = " ".join(message.title.split())[:200]
    mail["Message-ID"] = f"<{message.message_id}@tapewire>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    return mail


def _line(note: Note) -> str:
    text = " ".join(note.text.split())  # a line break would look like another event
    if note.state in (AlertTransition.CLEARED, AlertTransition.STALE_CLEARED):
        return f"resolved: {text}"
    return f"still open: {text}" if note.state == REMINDER else text


def _shown(note: Note) -> dict[str, object]:
    return {
        "id": note.note_id,
        "subject": note.subject,
        "entity_id": note.entity_id,
        "episode": note.episode,
        "state": note.state,
        "severity": note.severity,
        "text": note.text,
        "time": to_rfc3339(note.event_time_us),
        "metric_name": note.metric_name,
        "metric_value": note.metric_value,
        "threshold": note.threshold,
    }


def _encoded(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
