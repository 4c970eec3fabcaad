"""Text in a video, captions above all, found without being pointed at."""
