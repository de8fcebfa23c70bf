"""The way to a Ray cluster: Serve's REST API on the head, and a replica's proof on any Ray pod."""
