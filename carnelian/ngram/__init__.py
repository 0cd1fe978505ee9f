"""N-gram language models: counted, estimated, read, written, combined and scored with. Knows nothing of decoding."""
