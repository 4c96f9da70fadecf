"""What runs in a slot: the entry, the partition server and the loading of model spans."""
