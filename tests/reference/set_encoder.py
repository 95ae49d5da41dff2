"""Set-Encoder by brute force (arXiv 2404.06912): all passages in one sequence, one dense mask, float64.

From the weights' names and numbers alone; nothing of fairpos, nothing of transformers' layers.
"""

import torch
from torch import Tensor


def scores(
    weights: dict[str, Tensor], heads: int, rows: list[list[int]], first_lengths: list[int], place: int
) -> Tensor:
    """The score of each row (k,).

    Args:
        weights: By the checkpoint's names.
        heads: Of the attention.
        rows: Token ids, unpadded.
        first_lengths: So many tokens of each row have the type 0; the rest has 1.
        place: Where in a row the token stands that other rows see.
    """
    w = {name: weight.double() for name, weight in weights.items()}
    row_of = torch.tensor([number for number, row in enumerate(rows) for _ in row])
    position = torch.tensor([place for row in rows for place in range(len(row))])
    kind = torch.tensor([int(p >= n) for row, n in zip(rows, first_lengths, strict=True) for p in range(len(row))])
    tokens = torch.tensor([token for row in rows for token in row])
    sees = (row_of[:, None] == row_of[None]) | (position == place)[None]  # (tokens, tokens)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]
        )

    x = (
        w["embeddings.word_embeddings.weight"][tokens]
        + w["embeddings.position_embeddings.weight"][position]
        + w["embeddings.token_type_embeddings.weight"][kind]
    )
    x = norm("embeddings.LayerNorm", x)
    if "embeddings_project.weight" in w:
        x = linear("embeddings_project", x)
    layers = 1 + max(int(name.split(".")[2]) for name in w if name.startswith("encoder.layer."))
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        q, k, v = (
            linear(f"{layer}.attention.self.{part}", x).unflatten(-1, (heads, -1)).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        weight = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).masked_fill(~sees, -torch.inf).softmax(-1)
        seen = (weight @ v).transpose(0, 1).flatten(1)
        x = norm(f"{layer}.attention.output.LayerNorm", linear(f"{layer}.attention.output.dense", seen) + x)
        inner = torch.nn.functional.gelu(linear(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output.LayerNorm", linear(f"{layer}.output.dense", inner) + x)
    starts = [0, *torch.tensor([len(row) for row in rows]).cumsum(0).tolist()[:-1]]
    return linear("linear", x[starts])[:, 0]
