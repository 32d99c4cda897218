"""What connects the policies with the world outside, one module for each thing."""
