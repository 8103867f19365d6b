"""What the stages tell Prometheus."""
