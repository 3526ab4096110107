"""The REST frontend: Triton's HTTP surface on FastAPI."""
