"""Faces in a video, found without being pointed at."""
