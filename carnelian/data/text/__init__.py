"""Texts: files of lines, normalisation, captions."""
