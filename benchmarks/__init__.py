"""Programs that measure the product beside its peers; see docs/benchmarks.md."""
