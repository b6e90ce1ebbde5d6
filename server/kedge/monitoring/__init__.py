"""How counters become Prometheus text. Not here: who counts (`core/statistics.py`)."""
