"""Checkpoints: recognise, read and write every published layout; nothing in a file is ever executed."""
