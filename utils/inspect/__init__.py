"""Inspect a training HDF5 for labeling mistakes, in text and images: `python -m utils.inspect`."""
