"""Prepares the models that tests and the demo serve, from what package registries carry."""
