"""The claim as a whole: quality, throughput and latency of Echo beside large only, small only and plain retrieval."""
