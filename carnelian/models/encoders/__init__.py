"""Encoders: features to encoded channels; one file for each paper."""
