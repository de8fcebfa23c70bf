"""How many sunspots the next years have, by an LSTM."""
