"""The gRPC protocol: the .proto files and the stubs generated from them."""
