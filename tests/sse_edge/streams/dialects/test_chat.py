from schemas.events import ChatEvent, UserUpdate
from sse_edge.streams.dialects.chat import chat_event, user_update


def test_a_message_has_user_text_and_time_and_a_join_only_the_name() -> None:
    message = chat_event(
        ChatEvent(room="r", kind="message", user="ann", message="hi", event_time_us=0)
    )
    assert message.event == "message"
    assert message.data["user"] == "ann"
    assert message.data["message"] == "hi"
    for kind in ("join", "leave"):
        rendered = chat_event(ChatEvent(room="r", kind=kind, user="ann", event_time_us=0))
        assert (rendered.event, str(rendered.data)) == (kind, "ann")


def test_only_a_fatal_error_ends_a_users_stream() -> None:
    for kind, ends in (("update", False), ("error", False), ("fatal_error", True)):
        update = UserUpdate(user_id="u", kind=kind, data='{"a": 1}', event_time_us=0)
        rendered = user_update(update)
        assert (rendered.event, rendered.data, rendered.ends) == (kind, {"a": 1}, ends)
