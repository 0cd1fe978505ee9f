"""Other people's checkpoints, read and written without their frameworks."""
