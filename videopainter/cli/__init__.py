"""The command line: flags, errors and exit codes."""
