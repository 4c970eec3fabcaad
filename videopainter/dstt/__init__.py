"""DSTT with memory: live streams, frame in, frame out. Import the file that holds what you need."""
