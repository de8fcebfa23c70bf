"""The way to the gateways: what each one has applied."""
