"""Take things out of videos, and put other things in."""

__version__ = "0.1.0"
