"""Log-probabilities to hypotheses."""
