"""Cost model: time, energy and memory of spans, transfers and codecs, and queueing delays on shared units."""
