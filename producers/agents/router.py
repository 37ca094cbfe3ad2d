"""Routing: which agent a message is meant for, how sure that is, and why.

A text classifier, fitted when the worker starts, on the agents' own examples: words, and pieces of
words, weighted by how rare they are (TF-IDF), and a logistic regression over them. What it says
can be explained: the probability is the confidence, and the words that weighed most the reason.
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
"""The examples are few, and each counts: little is smoothed away."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a message goes."""

    agent: Agent
    confidence: float
    """Probability, 0 to 1."""
    reasoning: str


class Router:
    """Knows the agents by their examples."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        """Fit the classifier; at least two agents with examples."""
        self._agents = agents
        texts = [_readable(text) for agent in agents for text in agent.examples]
        whose = [at for at, agent in enumerate(agents) for _ in agent.examples]
        self._words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", sublinear_tf=True)  # noqa: S106
        self._model = LogisticRegression(C=_REGULARIZATION, max_iter=1_000)
        self._model.fit(self._words.fit_transform(texts), whose)

    def route(self, message: str) -> Route:
        """Decide."""
        seen: Any = self._words.transform([_readable(message)])
        probabilities = self._model.predict_proba(seen)[0]
        best = int(np.argmax(probabilities))
        agent = self._agents[best]
        confidence = float(probabilities[best])
        weights = self._model.coef_
        # Of two classes there is one row of weights, for the second.
        row = weights[best] if len(weights) > 1 else weights[0] * (1 if best else -1)
        told = seen.toarray()[0] * row
        names = self._words.get_feature_names_out()
        words = [names[at] for at in np.argsort(told)[::-1][:_REASONS] if told[at] > 0]
        known = " ".join(f"'{word}'" for word in words) or "nothing in it"
        return Route(agent, confidence, f"{known} speaks for {agent.name} ({confidence:.0%})")


def _readable(text: str) -> str:
    """Numbers, whatever they are, count as one word."""
    return "".join("0" if one.isdigit() else one for one in text.lower())
