"""Training on AWS: which machine, what it costs, one machine or a cluster from one command."""
