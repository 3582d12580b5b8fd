"""The demo: what is looked at, how it flows from file to file, and what is written."""
