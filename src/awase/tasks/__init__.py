"""What people do with a Clip: search."""
