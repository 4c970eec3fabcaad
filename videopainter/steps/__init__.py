"""The stations of the spine, each of which can be called alone."""
