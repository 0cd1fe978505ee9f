"""The losses that an acoustic model is trained by."""
