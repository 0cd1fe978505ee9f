"""Where each corpus keeps its audio and words."""
