"""The demo: sources, results, and the loop from one to the other."""
