"""What the official implementation of DivE calls the parts of its slot block, and what they are called here."""

SLOT_BLOCK = {
    "latents": "slots",
    "layers.0.0.norm.": "slot_norm.",
    "layers.0.0.norm_context.": "input_norm.",
    "layers.0.0.fn.to_q.": "query.",
    "layers.0.0.fn.to_k.": "key.",
    "layers.0.0.fn.to_v.": "value.",
    "layers.0.0.fn.to_out.": "out.",
    "layers.0.2.norm.": "feed_forward.0.",
    "layers.0.2.fn.net.0.": "feed_forward.1.",
    "layers.0.2.fn.net.3.": "feed_forward.4.",
    "last_layer.0.": "last_norm.",
}

PIE_NET = {
    "attention.w_1.": "attention.first.",
    "attention.w_2.": "attention.second.",
    "fc.": "linear.",
    "layer_norm.": "norm.",
}
"""PVSE's and PCME's element head."""

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
