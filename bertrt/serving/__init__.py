"""The HTTP server: a plain ASGI application that speaks the protocols of existing clients."""
