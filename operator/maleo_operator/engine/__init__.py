"""Work queue, placement cycle and leader election."""
