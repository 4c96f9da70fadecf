"""Cost model: what a span of blocks, a transfer, a codec and waiting cost on given hardware."""
