"""Files that appear whole, signals that end work, and reports of a run."""
