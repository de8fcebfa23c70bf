"""The loops: read, decide by the pure layers, write; and what keeps them running."""
