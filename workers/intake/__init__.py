"""Reads what is asked for, from manifests and messages, and says what is wrong with an entry."""
