"""Scores: metrics of single answers, and what they make of a whole set of predictions."""
