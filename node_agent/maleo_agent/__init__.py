"""The node agent: describes its device, samples it, caches artefacts and steers the slots of its node."""
