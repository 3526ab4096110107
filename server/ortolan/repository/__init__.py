"""What the model repository on disk says. Loads nothing: reading a model's graph is the execution floor's."""
