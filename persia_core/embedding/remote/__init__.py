"""Both ends between a trainer and an embedding worker elsewhere (docs/formats/embedding_worker.md)."""
