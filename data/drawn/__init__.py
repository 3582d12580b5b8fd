"""The people that data/synthetic.py draws."""
