"""The distillation file and the teacher's knowledge in it."""
