"""A picture library that answers sentences: `store` keeps it, `indexing` fills it, `query` asks it."""
