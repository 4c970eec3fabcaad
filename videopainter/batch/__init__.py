"""Rows of a CSV, one after the other, by any number of processes: resumable, and measured where the truth is known."""
