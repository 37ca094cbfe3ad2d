"""The arguments and help texts of each command."""
