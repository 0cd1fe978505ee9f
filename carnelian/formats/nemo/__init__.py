"""Checkpoints of NeMo: read, written, and their configurations translated."""
