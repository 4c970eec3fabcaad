"""Things found by their names: words to boxes that are followed, or to masks."""
