"""Frozen text encoders, and the bridge that lets them read soft predictions."""
