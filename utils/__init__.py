"""Training, inference, evaluation and what they share."""
