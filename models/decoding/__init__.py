"""From a model to text: greedy decoding and beam search, and the constraints on what they may write."""
