"""Talking to the API server: the client, the cache of what it said, and the queue of what to look at."""
