"""From annotation files and photographs to training samples."""
