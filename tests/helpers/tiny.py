"""Tiny models and tokenizers, built in code: two blocks, 64 wide, a byte-level vocabulary."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteMoeConfig,
    GraniteMoeForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from expunge.data.tokenization import Encoded
from expunge.models.transformer import Network

T = TypeVar("T")

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 300


def llama(
    *, seed: int = 0, layers: int = 2, width: int = 64, dtype: torch.dtype = torch.float32
) -> LlamaForCausalLM:
    """A Llama small enough that a training step takes milliseconds."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).to(dtype)
    model.eval()
    return model


def gpt2(
    *, seed: int = 0, layers: int = 2, width: int = 64, vocabulary: int = VOCABULARY
) -> GPT2LMHeadModel:
    """A GPT-2: transposed linear layers, learnt positions."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=512,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        resid_pdrop=0.1,
    )
    model = GPT2LMHeadModel(config)
    model.eval()
    return model


def gemma() -> Gemma2ForCausalLM:
    """A model that bends its logits after the head."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        final_logit_softcapping=0.5,
    )
    return Gemma2ForCausalLM(config).eval()


def granite_moe() -> GraniteMoeForCausalLM:
    """Another, whose trunk returns more than states."""
    torch.manual_seed(0)
    config = GraniteMoeConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        logits_scaling=4.0,
    )
    return GraniteMoeForCausalLM(config).eval()


def phi() -> PhiForCausalLM:
    """A model whose head has a bias."""
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    return PhiForCausalLM(config).eval()


def falcon() -> FalconForCausalLM:
    """A model whose blocks return tuples."""
    torch.manual_seed(0)
    config = FalconConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    return FalconForCausalLM(config).eval()


def mixtral(
    *, layers: int = 2, width: int = 64, vocabulary: int = VOCABULARY
) -> MixtralForCausalLM:
    """A mixture of experts, whose matrices lie in one tensor each."""
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width // 2,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    return MixtralForCausalLM(config).eval()


def qwen_moe(*, dense: Sequence[int] = ()) -> Qwen2MoeForCausalLM:
    """Another, with a shared expert behind a gate of its own; some of its blocks may be dense."""
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        mlp_only_layers=[*dense],
    )
    return Qwen2MoeForCausalLM(config).eval()


def bloom() -> BloomForCausalLM:
    """A model of tuples again, whose attention knows distances and no positions."""
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=4)
    return BloomForCausalLM(config).eval()


def network(model: PreTrainedModel | None = None) -> Network:
    """A network around a frozen model."""
    chosen = llama() if model is None else model
    chosen.requires_grad_(False)
    return Network(chosen)


def tokenizer(*, template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Bytes, and the marks of ChatML; padding, end of text and end of turn are one token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|end|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 3, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    wrapped.chat_template = template
    return wrapped


def save(folder: Path, model: PreTrainedModel, template: str | None = CHATML) -> Path:
    """Save a model and its tokenizer as a loadable folder."""
    model.save_pretrained(folder)
    tokenizer(template=template).save_pretrained(folder)
    return folder


def hollow(folder: Path) -> Path:
    """Write what looks like a model folder, for commands that stop before they load it."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def encoded(*lengths: tuple[int, int], seed: int = 0) -> tuple[Encoded, ...]:
    """Records of random tokens, each given as (prompt length, answer length)."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> Sequence[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=generator).tolist()

    return tuple(
        Encoded(record=f"r{index}", ids=(*tokens(prompt), *tokens(answer)), start=prompt, ends=True)
        for index, (prompt, answer) in enumerate(lengths)
    )


def counted(work: Callable[[], T]) -> tuple[T, int]:
    """What `work` returns, and the operations that it takes."""
    with FlopCounterMode(display=False) as counter:
        value = work()
    return value, counter.get_total_flops()
