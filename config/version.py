"""The project's version; `setup.py` and exported networks have it from here."""

VERSION = "0.1.0"
