"""Scoring by the rules of NIST's sclite: its file formats, alternates, optionally deletable words, fragments, subsets."""
