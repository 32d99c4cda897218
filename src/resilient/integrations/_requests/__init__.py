"""requests, in the words that all clients have in common."""
