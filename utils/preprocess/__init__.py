"""From images to the pixels that a network takes, and from its outputs back to the image's pixels. NumPy and OpenCV alone, for `deploy`."""
