"""The model package: a folder with weights and a description of them, `modelyard.yaml`.

Imports neither torch nor Ray: the replica reads packages, and so does the command line.
"""
