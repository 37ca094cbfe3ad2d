"""Agents that answer messages, and the worker that routes messages to them."""
