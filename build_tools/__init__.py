"""Tools that build the wheel; they are not part of it."""
