"""One inference as data: datatypes, tensors, requests and responses. Imports numpy and nothing of ours but errors."""
