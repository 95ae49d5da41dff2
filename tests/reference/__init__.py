"""References of the attention methods: dense, slow, one prompt, no cache, nothing of fairpos; written from the papers.

    method.next_token_logits(model, ids, spans, **options)      (V,)
    method.generate_ids(model, ids, spans, steps, **options)    greedy tokens, the whole prompt run anew for each

Every method is made of three things, which `runner.Layer` puts together: the position of each query, the position of
each key as that query sees it, and which keys it may see. Where the papers leave a choice, these hold throughout:

- A sliding window is a window in positions: of the keys that a method lets a query see, those less than `window`
  before it stay, as the method places the two.
- The scores by which PINE ranks segments and Ms-PoE ranks heads come from un-rotated queries and keys. They know no
  positions, so no window cuts them; scale and soft-cap are the model's own.
"""
