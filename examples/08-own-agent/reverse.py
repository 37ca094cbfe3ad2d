"""An agent of your own: it answers a message with the message backwards, word by word.

Run the worker with it, beside a running system:
  export PYTHONPATH=examples/08-own-agent TAPEWIRE_AGENTS=reverse:Reverse
  .venv/bin/python -m producers orchestrator
Ask: curl -N 'localhost:8000/process/stream?message=reverse+one+two+three'
"""

from collections.abc import AsyncGenerator, Sequence


class Reverse:
    """Answers with the words of a message in reverse order."""

    agent_id = "reverse"
    name = "Reverse"
    protocol = "local"
    examples: Sequence[str] = (
        "reverse one two three",
        "say this sentence backwards",
        "turn the order of these words around",
        "reverse my words please",
    )
    """Messages that this agent should get; the router learns from them."""

    async def answer(self, message: str) -> AsyncGenerator[str]:
        """Yield the answer in pieces, each of which clients receive at once."""
        for word in reversed(message.split()):
            yield word + " "
