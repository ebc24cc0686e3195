"""Modules of the ADW phases. Importing this package does nothing."""
