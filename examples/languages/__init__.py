"""Which language a text is in, from its bytes: a plain recurrent network and an LSTM."""
