"""What an engine is (`base`), and what engines have in common that see the surroundings of the holes (`crop`)."""
