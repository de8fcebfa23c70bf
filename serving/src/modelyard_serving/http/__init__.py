"""The HTTP side of a replica: OpenAI's API for users, proof and metrics for the platform."""
