"""Making a memory for the default backbone. Run from the root of the repository."""
