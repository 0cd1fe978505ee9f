"""References and hypotheses to error counts, intervals and reports."""
