"""Java as text: syntax trees, statements, tokens, and which statements are assertions."""
