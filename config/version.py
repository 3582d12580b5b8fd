"""The project's version, here alone; `setup.py`, the documentation and exported networks read it."""

VERSION = "1.0.0"
