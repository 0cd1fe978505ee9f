"""Results changed by models of text: transcripts corrected, hypotheses scored again."""
