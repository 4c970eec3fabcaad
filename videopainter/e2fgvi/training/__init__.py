"""Fine-tuning E2FGVI."""
