"""The agent dialect: unnamed events, whose field `event` names the step of a run. Pure."""

from collections.abc import Mapping, Sequence

from schemas.events import AgentEvent, AgentStepKind
from sse_edge.streams.dialect import ClientInfo, Dialect, EventBlock, Rendered, UnknownWord

_HELP = (
    'Ask something: /process/stream?message=what+is+2%2B2, or POST {"message": "what is 2+2?"}. '
    "An agent is chosen for the message, and its answer arrives in pieces. "
    "The message 'help' lists what else there is."
)


def step(event: AgentEvent) -> Rendered:
    """Render a step of a run.

    Raises:
        UnknownWord: it is no step that clients know.
    """
    data: dict[str, object] = {"event": event.kind}
    match event.kind:
        case AgentStepKind.ROUTING_STARTED:
            data |= {"run_id": event.run_id, "attempt": event.attempt}
        case AgentStepKind.ROUTING_COMPLETED:
            data |= _agent(event) | {
                "agent_name": event.agent_name,
                "agent": event.agent_name,
                "confidence": event.confidence,
                "reasoning": event.reasoning,
            }
        case AgentStepKind.AGENT_EXECUTION_STARTED:
            data |= _agent(event)
        case AgentStepKind.RESPONSE_CHUNK:
            data |= {"text": event.text, "protocol": event.protocol, **_response(event)}
        case AgentStepKind.COMPLETED:
            data |= _agent(event) | _response(event)
        case AgentStepKind.ERROR:
            data |= {"error": event.text, "message": event.text}
        case _:
            raise UnknownWord(f"{event.kind!r} is no step of a run")
    return Rendered(event.kind, data, ends=event.ends)


def help_events() -> Sequence[EventBlock]:
    """Return the answer to a client without a message: a help text, and its end."""
    steps = (AgentStepKind.RESPONSE_CHUNK, AgentStepKind.COMPLETED)
    return [
        _bare(
            step(
                AgentEvent(
                    run_id="help",
                    kind=kind,
                    number=number,
                    agent_id="help",
                    agent_name="Help",
                    protocol="local",
                    text=_HELP,
                    event_time_us=0,
                )
            ),
            "",
        )
        for number, kind in enumerate(steps)
    ]


def _agent(event: AgentEvent) -> dict[str, object]:
    return {"agent_id": event.agent_id, "protocol": event.protocol}


def _response(event: AgentEvent) -> dict[str, object]:
    return {"response_data": {"raw_response": {"parts": [{"kind": "text", "text": event.text}]}}}


def _bare(rendered: Rendered, _: str) -> EventBlock:
    return EventBlock(None, rendered.data)


def _notice(_: ClientInfo, event: str, data: Mapping[str, object], timestamp: str) -> EventBlock:
    return EventBlock(None, {"event": event, **data, "timestamp": timestamp})


AGENT: Dialect = Dialect("agent", wrap=_bare, notice=_notice, heartbeat_s=15.0)
