"""The events, their encoding, and the topics that carry them. Imports no other folder."""
