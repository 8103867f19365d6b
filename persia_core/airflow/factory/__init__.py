"""DAGs made from the configurations of models: a new model is a new YAML file."""
