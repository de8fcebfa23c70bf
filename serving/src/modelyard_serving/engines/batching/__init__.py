"""The engine with continuous batching: one forward pass a step for all that runs, whatever joins or leaves."""
