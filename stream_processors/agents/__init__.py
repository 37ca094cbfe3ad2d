"""Faust agents: each reads topics, calls the calculations, and writes what follows."""
