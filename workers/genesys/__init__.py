"""All knowledge of the transcription API's wire: paths, headers, JSON keys, errors."""
