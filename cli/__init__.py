"""The `tapewire` command."""
