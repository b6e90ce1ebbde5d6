"""gRPC listeners behind one interface, `core.ports.Front`."""
