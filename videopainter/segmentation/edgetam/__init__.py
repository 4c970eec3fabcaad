"""From a click to a mask with EdgeTAM, a SAM 2 for phones."""
