"""What all missions share: units and their classes, links, reservations, and where data may go."""
