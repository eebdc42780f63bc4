"""Measures how recordings come in, and what a ledger full of waiting ones costs."""
