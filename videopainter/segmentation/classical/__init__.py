"""Tracking without weights."""
