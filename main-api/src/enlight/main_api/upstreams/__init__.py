"""The services behind, and the requests that are handed on to them."""
