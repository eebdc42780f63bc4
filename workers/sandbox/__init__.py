"""A local stand-in for the transcription API, with its limits, for trying out, demo and tests."""
