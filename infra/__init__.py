"""Infrastructure: the embedded broker, the topics, and the supervisor of a system's parts."""
