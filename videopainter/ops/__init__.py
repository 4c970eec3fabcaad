"""Tensor operations that several networks share. Import the file that holds what you need."""
