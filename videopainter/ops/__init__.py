"""What several engines share: tensor operations, motion, smooth filling. Import the file that holds what you need."""
