"""Shapes as Hugging Face configurations: the published ones, and small ones with the same odd ratios.

35b: GQA 8:1, 2 GDN value heads a key head, experts; 27b: 6:1, 3:1, a dense MLP.  Head sizes are the real ones (256 and
128) throughout; the small ones have widths that are multiples of 128, three blocks along K at least.
"""
import transformers

COMMON = dict(
    head_dim=256,
    linear_key_head_dim=128,
    linear_value_head_dim=128,
    linear_conv_kernel_dim=4,
    rms_norm_eps=1e-6,
    max_position_embeddings=262144,
    tie_word_embeddings=False,
    rope_parameters=dict(rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25,
                         mrope_section=[11, 11, 10], mrope_interleaved=True),
)
MOE = dict(num_experts_per_tok=8)
SHAPES = {
    "35b": dict(MOE, vocab_size=248320, hidden_size=2048, num_hidden_layers=40, num_attention_heads=16,
                num_key_value_heads=2, linear_num_key_heads=16, linear_num_value_heads=32, num_experts=256,
                moe_intermediate_size=512, shared_expert_intermediate_size=512),
    "27b": dict(vocab_size=248320, hidden_size=5120, num_hidden_layers=64, num_attention_heads=24,
                num_key_value_heads=4, linear_num_key_heads=16, linear_num_value_heads=48, intermediate_size=17408),
    "small-35b": dict(MOE, vocab_size=2048, hidden_size=384, num_hidden_layers=8, num_attention_heads=8,
                      num_key_value_heads=1, linear_num_key_heads=2, linear_num_value_heads=4, num_experts=32,
                      moe_intermediate_size=128, shared_expert_intermediate_size=128),
    "small-27b": dict(vocab_size=2048, hidden_size=640, num_hidden_layers=8, num_attention_heads=6,
                      num_key_value_heads=1, linear_num_key_heads=2, linear_num_value_heads=6,
                      intermediate_size=1152),
}


def config_of(name, layers=None):
    """The configuration, of the first so many layers."""
    kind = transformers.Qwen3_5MoeTextConfig if "num_experts" in SHAPES[name] else transformers.Qwen3_5TextConfig
    shape = dict(COMMON, **SHAPES[name])
    shape["num_hidden_layers"] = layers or shape["num_hidden_layers"]
    shape["layer_types"] = ["full_attention" if i % 4 == 3 else "linear_attention"
                            for i in range(shape["num_hidden_layers"])]
    return kind(**shape)


def write_config(config, folder):
    """config.json as a model folder has it, for our own programs."""
    config.to_json_file(folder + "/config.json", use_diff=False)
