"""Models that take a recording in pieces, as its audio comes."""
