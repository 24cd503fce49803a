"""Writes the files beside it: an encoder with random weights, and the vectors that PyTorch gives for it.

Needs torch 2.15.0, transformers 5.23.0 and tokenizers.
"""

import json
import os

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

here = os.path.dirname(os.path.abspath(__file__))
path = lambda name: os.path.join(here, name)

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "the", "tool", "nail", "##s", "driv", "##ing", "for", "small", "hand", "."]
tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
tokenizer.enable_padding(length=20)  # As published files have it; the reader must not use it.
tokenizer.save(path("tokenizer.json"))

torch.manual_seed(7)
config = BertConfig(
    vocab_size=len(words), hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
    max_position_embeddings=16, initializer_range=0.5,
)
model = BertModel(config, add_pooling_layer=False).eval()
for name, parameter in model.named_parameters():
    if parameter.dim() == 1:
        parameter.data += 0.3 * torch.randn_like(parameter)
weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if tensor.dtype == torch.float32}
save_file(weights, path("model.safetensors"))
keys = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
        "max_position_embeddings", "layer_norm_eps", "hidden_act"]
with open(path("config.json"), "w") as file:
    json.dump({key: getattr(config, key) for key in keys}, file, indent=1)

texts = ["A small hand tool for driving nails.", "the nail", "", "something unknown", "nails " * 40]
tokenizer.no_padding()
tokenizer.enable_truncation(16)
vectors = []
for text in texts:
    ids = torch.tensor([tokenizer.encode(text).ids])
    with torch.inference_mode():
        mean = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0][0].mean(0)
    vectors.append([float(f"{value:.9g}") for value in torch.nn.functional.normalize(mean, dim=0)])
with open(path("expected.json"), "w") as file:
    json.dump({"texts": texts, "vectors": vectors}, file)
