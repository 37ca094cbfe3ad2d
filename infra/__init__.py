"""What it stands on: the broker, the topics, and the parts of a system started together."""
