"""Fault tests: kill, power cut, full disk, failing disk; after each, what was acknowledged has been delivered."""
