"""The work queue, the one placement cycle, leader election."""
