"""Carnelian: speech recognition with CTC, from recordings to a measured recognizer.

The letters of every shape in this package:
B batch, S samples, F features (mel bands), T feature frames, D encoder channels,
O output steps, V symbols with the blank, L target symbols.
"""

__version__ = "0.1.0"
