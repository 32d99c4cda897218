"""What a WSGI middleware does with one request."""
