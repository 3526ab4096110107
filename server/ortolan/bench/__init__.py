"""Measuring a server from outside: what its clients see, what it costs, and the floor beside it."""
