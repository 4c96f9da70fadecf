"""State shared by all missions: units and their classes, links, reservations, and reachable units."""
