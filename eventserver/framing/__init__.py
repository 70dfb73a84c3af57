"""Framers: they cut the bytes of a stream into frames. Sans-I/O, one object a connection."""
