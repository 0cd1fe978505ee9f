"""N-gram language models: counted, estimated, read, written, combined and asked. Knows nothing of decoding."""
