"""The teacher's forward pass, its distillation data, and how exact these are."""
