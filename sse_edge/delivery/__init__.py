"""From cached records to clients: nodes, connections, broadcast groups and feeds."""
