"""Dialects: each renders events as one of the five client systems expects them."""
