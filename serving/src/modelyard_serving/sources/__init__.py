"""Models that are downloaded: from a hub or a bucket, once, into a folder that replicas share.

`fetch.py` is what the replica calls. It starts `__main__.py`, a process of its own: `HF_HUB_OFFLINE` is read once by
each process, and the one that loads the model must stay offline.
"""
