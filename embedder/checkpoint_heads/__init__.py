"""Which heads do published checkpoints bring along, beside the backbone?

One file a head. Each is a function or a module on flat token states (the real tokens of a batch, one after another,
without padding), and a loader of the checkpoint's own safetensors:

    token_heads       a weight, or a vector, for every token: BGE-M3's sparse and multi-vector heads, mGTE's sparse head
    vocabulary        token states through the vocabulary: SPLADE, Mistral-SPLADE, and the next word of PromptReps
    content_words     which terms of a text PromptReps keeps
    term_queries      queries that need no network: SPLADE-doc, OpenSearch's inference-free models
    latent_attention  NV-Embed: token states attend to learned latents before they are pooled
    adapters          LoRA adapters: merged one after another (LLM2Vec), or chosen by the side at run time (jina-v3)
    routing           MoEE: which experts a mixture-of-experts model chose, as part of the vector
    context           CDE: vectors of the collection's own texts, read before the text
"""
