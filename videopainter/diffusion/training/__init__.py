"""Training VideoPainter's branch, its ID adapter and adapters of one's own; `train/train_branch.py` is the door."""
