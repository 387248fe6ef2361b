"""Scores of one prediction against its reference, and their intervals over many."""
