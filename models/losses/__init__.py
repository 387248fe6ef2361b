"""Building blocks of the loss functions: divergences, one pass over the vocabulary, error spans, critical tokens."""
