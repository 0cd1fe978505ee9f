"""The recognizer as a service: HTTP and WebSocket protocols over one queue that many clients share."""
