"""The gRPC server: model repository -> onnxruntime session -> batcher -> services -> metrics."""
