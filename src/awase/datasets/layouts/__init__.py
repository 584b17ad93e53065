"""The layouts people have, one file each: a folder -> a `Layout`, or None where the folder is laid out otherwise."""
