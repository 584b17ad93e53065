"""Pictures and sentences to vectors. Knows nothing of data sets, training or tasks."""
