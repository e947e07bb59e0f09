"""Streaming video question answering with an append-only memory of frames."""
