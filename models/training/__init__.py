"""The training engine: the loop, one step, checkpoints, run folders."""
