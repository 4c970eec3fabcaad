"""One module a way to decode video."""
