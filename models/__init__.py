"""Models, losses, decoding and the training engine. Imports data, config and utils."""
