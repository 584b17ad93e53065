"""Pretraining and adaptation: a Clip in, a Clip out. Needs torch: pip install 'awase[torch]'.

losses         each loss a small pure function with its source
loop           the training loop
pretraining/   contrastive training of towers
"""
