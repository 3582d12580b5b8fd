"""Show what is in a training HDF5, in words and images, so that labeling mistakes are seen at a glance: `python -m utils.inspect`."""
