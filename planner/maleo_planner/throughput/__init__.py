"""Maximum rate of a pipeline over any number of units."""
