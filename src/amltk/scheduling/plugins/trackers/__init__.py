"""Plugins that record calls with experiment trackers."""
