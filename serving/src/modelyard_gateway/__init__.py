"""The data plane at the door: routes published by the operator, HAProxy's configuration, and the agent between them."""
