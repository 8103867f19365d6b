"""Tests that run real Spark."""
