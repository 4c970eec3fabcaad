"""What tests of the batch share."""

from batch_folder import folder  # noqa: F401
