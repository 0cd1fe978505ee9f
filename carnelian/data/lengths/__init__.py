"""Recordings whose headers state no length, an estimate, or that of a part: their true length, and exact segments."""
