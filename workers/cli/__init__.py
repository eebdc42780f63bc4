"""The `retroscribe` command."""
