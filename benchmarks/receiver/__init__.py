"""Measures how many events the receiver takes and how soon it answers, beside an app that only answers."""
