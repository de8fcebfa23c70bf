"""Digits on pictures: a dense, a convolutional and a residual network."""
