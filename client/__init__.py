"""The Python client of the gRPC service, blocking and asyncio."""
