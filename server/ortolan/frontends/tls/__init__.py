"""TLS on the ports: certificates that are followed, connections, and whom a client's certificate names."""
