"""Adaptation: teach a Clip a trade. A method takes a Clip and a task and gives an Adapter.

task, method, methods    what is learned from; what every method is; which there are, by name
holding_out              what choices are made on; never a test split
augmentation             random views of a picture

Classifiers on frozen towers, of NumPy and seconds: by_name (zero-shot), linear_probe, clap, lp_plus, gaussian, cache,
trained_cache. Methods that train, of torch and minutes: prompts, deep_prompts, lora, inversion, finetuning, over
sentences, pictures, low_rank, both_towers, objective and training.

better_prompts           what to ask with before anything is learned, over prompt_search and descriptions
choose                   which method, by advice and by pictures held out
comparing                every method beside the others, over shots and draws
retention                what was forgotten elsewhere
"""
