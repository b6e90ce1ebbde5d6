"""Two Parquet files compared by column: what moved, how sure that is, and a page of plots."""
