"""From audio to transcripts: the recognizer."""
