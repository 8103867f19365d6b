"""The Python face of the native embedding worker."""
