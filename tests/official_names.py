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
