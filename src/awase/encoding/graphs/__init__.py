"""The towers as ONNX graphs: the same formulas and tensor names as `towers`, for the engines that need no torch.

`graphs.towers` has `image_graph` and `text_graph`. The modules of this folder import `onnx`, the
folder itself does not: an engine that finds its graphs in the cache never loads it."""

VERSION = 1  # of what the graphs compute and how they lie on disk; a change raises it and leaves old caches behind
