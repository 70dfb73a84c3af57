"""The whole server as a process of its own, and real programs on loopback that speak to it."""
