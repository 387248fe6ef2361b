"""Sequence-to-sequence models: loading, building, and the output head at the target positions."""
