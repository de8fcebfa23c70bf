"""A real one-node Kubernetes from pinned source packages, inside its own network namespace.

Standard library only: it runs with the system's Python 3.11 before any virtual environment exists.
"""
