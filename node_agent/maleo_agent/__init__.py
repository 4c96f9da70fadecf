"""Node agent: describes its device, samples its sensors, caches artifacts and controls the slots of its node."""
