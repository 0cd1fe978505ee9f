"""The verbs of `carnelian benchmark`, and what they and the scripts in benchmarks/ share."""
