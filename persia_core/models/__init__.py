"""Dense networks: ordinary torch modules over dense features and pooled embeddings."""
