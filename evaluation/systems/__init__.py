"""What is judged: models, the stored teacher, baselines. Each becomes predictions and measurements."""
