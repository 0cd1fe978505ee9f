"""Tensors to tensors, each headed by its paper."""
