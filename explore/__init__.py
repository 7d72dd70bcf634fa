"""`tersor.auto`: pipelines searched for on the front of quality, latency and size."""
