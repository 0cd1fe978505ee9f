"""Corpora of the Linguistic Data Consortium: a licence is needed, so nothing is downloaded; the discs must be there."""
