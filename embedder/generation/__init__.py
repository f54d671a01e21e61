"""What can a local language model write that makes texts easier to find?

    generator   any causal language model that transformers loads, asked with prompts
    answers     the same generator behind a cache on the disk: what was written once is not written again
    prompts     what it is asked
    documents   questions and paraphrases that enrich passages when they are indexed
    queries     hypothetical answers, thoughts and paraphrases that enrich a query's vector

Only `generator` needs torch.
"""
