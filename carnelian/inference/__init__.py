"""The fast paths of a finished model."""
