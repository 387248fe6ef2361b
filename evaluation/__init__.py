"""Judges teacher, student and baselines, by text and by running Java. Imports every floor below."""
