"""Training: samples with temporal reconstruction, and the trainer."""
