"""The control plane: it reconciles ModelServices into Ray Serve applications."""
