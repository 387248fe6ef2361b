"""What a decoder must not write: broken Java, names that the input does not have, endless loops."""
