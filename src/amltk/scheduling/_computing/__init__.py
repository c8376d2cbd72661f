"""What a call can ask about itself where it is computed. Imported by workers, so it imports next to nothing."""
