"""What the clients of all libraries do alike: the policies around an exchange, and its attempts.

An adapter says of its library what `Library` asks, and hands over each request; see `Client`.
"""
