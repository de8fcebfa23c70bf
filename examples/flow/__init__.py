"""What the examples have in common: data from packages, splits, training, measuring, packaging."""
