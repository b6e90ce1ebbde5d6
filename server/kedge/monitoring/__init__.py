"""From counters to what operators look at: the Prometheus page. Reads values, serves nothing."""
