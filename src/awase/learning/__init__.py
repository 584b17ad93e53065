"""Pretraining and adaptation: a Clip in, a Clip out. Needs torch: pip install 'awase[torch]'.

losses         each loss a small pure function with its source
loop           the training loop, on one process or many (distributed), which can be killed at any time (state)
large_batches  steps that a small machine can take as a large one would
pretraining/   contrastive training of towers
"""
