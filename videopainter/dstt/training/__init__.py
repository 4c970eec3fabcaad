"""Training DSTT."""
