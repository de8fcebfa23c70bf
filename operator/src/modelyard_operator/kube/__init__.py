"""The way to the API server: a protocol, the official async client behind it, and its errors."""
