"""From a model to text: beam search, and the constraints that keep it to Java."""
