"""System identification from recordings."""
