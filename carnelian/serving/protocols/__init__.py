"""What clients speak: each protocol turns its own messages into the calls of `serving.service`. None knows a web framework."""
