"""The embedding worker as a rank of its own."""
