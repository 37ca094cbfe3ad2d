"""Tables of all events: written from the log into a lake, and read by SQL."""
