"""What hosting platforms say of a server by its environment: its port, its models' place, its time to stop.

One file for each contract; each is a pure decision from the environment to settings by name. Who asks, and what beats
what, is ``detection.py`` and ``settings/reading.py``: defaults < the platform < ``ORTOLAN_*`` variables < flags.
"""
