"""Pure: from what Kubernetes and Ray answer to facts. No client, no clock, no environment."""
