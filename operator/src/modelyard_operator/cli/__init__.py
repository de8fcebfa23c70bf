"""The command `modelyard`. Nothing here imports torch or ray; `run` does when it is called."""
