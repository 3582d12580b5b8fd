"""Evaluation, chosen by the data set."""
