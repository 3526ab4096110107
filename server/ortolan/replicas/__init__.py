"""Several processes that serve on the same ports: full replicas, and the supervisor that starts and joins them."""
