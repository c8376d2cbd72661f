"""What plugins have in common."""
