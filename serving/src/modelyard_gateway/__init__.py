"""The data plane at the door: the operator's routes, HAProxy, and the agent between them."""
