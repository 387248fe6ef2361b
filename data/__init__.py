"""From Java sources to batches of token ids. Imports config and utils."""
