"""What the official implementation of HREM calls its parts, and what they are called here."""

CONTEXT = {
    "self_attn.in_proj_": "qkv.",
    "self_attn.out_proj.": "out.",
    "linear1.": "wide.",
    "linear2.": "narrow.",
    "norm1.": "attention_norm.",
    "norm2.": "last_norm.",
}
"""HREM's fragment layer, which is torch's own encoder layer."""

HREM_GRAPH = {
    "gnn.layers.0.self_attn.": "interaction.layer.attention.",
    "gnn.layers.0.linear1.": "interaction.layer.feed_forward.0.",
    "gnn.layers.0.linear2.": "interaction.layer.feed_forward.3.",
    "gnn.layers.0.norm1.": "interaction.layer.attention_norm.",
    "gnn.layers.0.norm2.": "interaction.layer.feed_forward_norm.",
    "adj_model.adj_learning.mlp_i2t.0.": "relevance_i2t.0.",
    "adj_model.adj_learning.mlp_i2t.3.": "relevance_i2t.2.",
    "adj_model.adj_learning.mlp_t2i.0.": "relevance_t2i.0.",
    "adj_model.adj_learning.mlp_t2i.3.": "relevance_t2i.2.",
}
"""HREM's association graph; their `criterion_state.pth` holds nothing else."""
