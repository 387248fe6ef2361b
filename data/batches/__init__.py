"""Rows to micro-batches: which rows, in which order, padded how."""
