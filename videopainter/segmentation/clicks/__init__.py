"""From clicks in one frame to a mask, by a small network that ships with the package and runs in OpenCV."""
