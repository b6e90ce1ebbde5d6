"""What runs a batch, behind `core.ports.Executor`. The only home of torch in the server."""
