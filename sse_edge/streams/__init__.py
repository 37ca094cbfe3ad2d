"""Streams as values: channels, what a request selects of them, and how records are rendered."""
