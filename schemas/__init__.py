"""What is said: the events, their bytes, and the topics that carry them. Imports no other room."""
