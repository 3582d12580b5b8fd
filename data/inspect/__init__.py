"""What is in a people file, in words and pictures, so that a labelling mistake is found in a glance; `python -m data.inspect`."""
