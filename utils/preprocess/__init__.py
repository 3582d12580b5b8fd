"""From images to the pixels that a network takes, and from its pixels back to the image's. NumPy and OpenCV alone, for `deploy`."""
