"""Raw days, hashed partitions and training batches."""
