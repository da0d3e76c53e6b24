"""The routes of each family of clients."""
