"""Routes a message to an agent, with a confidence and a reason.

A text classifier is fitted at start on the agents' examples: words and parts of words, weighted by
TF-IDF, and a logistic regression. The probability is the confidence, and the words with the largest
weights are the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from producers.agents.agents import Agent

_REASONS = 3
_REGULARIZATION = 10.0
"""The inverse regularization; the examples are few, so it is weak."""


@dataclass(frozen=True, slots=True)
class Route:
    """The agent of a message."""

    agent: Agent
    confidence: float
    """Probability, 0 to 1."""
    reasoning: str


class Router:
    """A classifier of messages by agent."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        """Fit the classifier to at least two agents with examples."""
        self._agents = agents
        texts = [_readable(text) for agent in agents for text in agent.examples]
        labels = [index for index, agent in enumerate(agents) for _ in agent.examples]
        pattern = r"\w+|[^\w\s]"
        self._words = TfidfVectorizer(token_pattern=pattern, sublinear_tf=True)
        self._model = LogisticRegression(C=_REGULARIZATION, max_iter=1_000)
        self._model.fit(self._words.fit_transform(texts), labels)

    def route(self, message: str) -> Route:
        """Return the agent of a message."""
        seen: Any = self._words.transform([_readable(message)])
        probabilities = self._model.predict_proba(seen)[0]
        best = int(np.argmax(probabilities))
        agent = self._agents[best]
        confidence = float(probabilities[best])
        weights = self._model.coef_
        # For two classes the model has one row of weights, that of the second.
        row = weights[best] if len(weights) > 1 else weights[0] * (1 if best else -1)
        contributions = seen.toarray()[0] * row
        names = self._words.get_feature_names_out()
        words = [
            names[index]
            for index in np.argsort(contributions)[::-1][:_REASONS]
            if contributions[index] > 0
        ]
        known = " ".join(f"'{word}'" for word in words) or "nothing in it"
        return Route(agent, confidence, f"{known} speaks for {agent.name} ({confidence:.0%})")


def _readable(text: str) -> str:
    """Replace all digits, so that all numbers count as one word."""
    return "".join("0" if letter.isdigit() else letter for letter in text.lower())
