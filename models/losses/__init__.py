"""What the loss functions are made of: divergences, one pass over the vocabulary, error spans, token weights."""
