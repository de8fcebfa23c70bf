"""The data plane inside the replica: a typed contract, the generic Serve application, tasks on engines."""
