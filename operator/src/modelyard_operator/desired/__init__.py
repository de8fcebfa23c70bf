"""Pure: from specs to the objects that there should be. No client, no clock, no environment."""
