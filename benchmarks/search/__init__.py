"""Measures how fast transcripts are indexed and found, and what room they take."""
