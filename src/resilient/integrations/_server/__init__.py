"""What the servers of all kinds do alike: whose limits count, and what an error is answered by."""
