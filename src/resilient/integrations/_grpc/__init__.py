"""gRPC: what is behind the interceptors and servicers of `grpc` beside this folder."""
