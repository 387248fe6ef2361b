"""Sequence-to-sequence models: loading, building, inputs, the output head, and scores on the reference."""
