"""The inference core that both frontends share: which versions are there, and asking them."""
