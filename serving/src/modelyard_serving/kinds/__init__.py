"""The tasks that a replica can do: one small module for each, and the catalog that picks among them."""
