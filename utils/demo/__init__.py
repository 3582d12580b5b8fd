"""Run a network on images and videos, and write the results."""
