"""Recommendations to people of a made-up world, by matrix factorisation and by nearest neighbours."""
