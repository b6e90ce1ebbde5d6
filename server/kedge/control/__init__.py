"""Everything that is asked of the server besides inference, and the process that speaks HTTP."""
