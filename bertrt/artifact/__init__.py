"""The artifact directory: its manifest, its files, and the names in both."""
