"""The object store, what lies in it, and how models are handed to serving."""
