import pytest

from schemas.events import AgentEvent, AgentStepKind
from sse_edge.streams.dialects.agent import help_events, step


@pytest.mark.parametrize("kind", list(AgentStepKind))
def test_each_step_of_a_run_names_itself(kind: AgentStepKind) -> None:
    event = AgentEvent(
        run_id="r",
        kind=kind,
        agent_id="a",
        agent_name="Agent",
        protocol="local",
        confidence=0.9,
        reasoning="words",
        text="text",
        event_time_us=0,
    )
    rendered = step(event)
    assert rendered.event == rendered.data["event"] == kind
    assert rendered.ends == (kind in ("completed", "error"))
    if kind in ("response_chunk", "completed"):
        parts = rendered.data["response_data"]["raw_response"]["parts"]
        assert parts == [{"kind": "text", "text": "text"}]
    if kind == "error":
        assert rendered.data["error"] == rendered.data["message"] == "text"


def test_the_help_text_is_an_answer_that_ends() -> None:
    chunk, completed = (event.data for event in help_events())
    assert isinstance(chunk, dict)
    assert isinstance(completed, dict)
    assert (chunk["event"], completed["event"]) == ("response_chunk", "completed")
    assert chunk["response_data"] == completed["response_data"]
    assert "/process/stream?message=" in chunk["text"]
