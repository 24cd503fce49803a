"""Writes cases.json beside it: variants of the folder ../tiny_bert, and the vectors that sentence-transformers gives for each.

Needs sentence-transformers 6.2.0, transformers 5.23.0 and torch 2.15.0. A variant is what is merged into the files of the folder:
objects are merged key by key, anything else is replaced. `weights` has pairs of texts that are replaced in the names of the
weights, a prefix of the names, and the type. `below` is a folder in which the files of the encoder lie.
"""

import copy
import json
import os
import shutil
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

here = os.path.dirname(os.path.abspath(__file__))
tiny = os.path.join(here, "..", "tiny_bert")
TEXTS = [
    "A small hand tool for driving nails.",
    "The [SEP] th\u00e9 nail\u6f22tool [UNK] x",
    "the nail the nail the nail the nail tool tool tool tool tool tool tool tool a a a",
    "",
]
MODULE = "sentence_transformers.models."
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": MODULE + "Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": MODULE + "Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": MODULE + "Normalize"},
]
BASE = {
    "config.json": {"model_type": "bert"},
    "modules.json": MODULES,
    "1_Pooling/config.json": {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True},
}
CUT = {"model_max_length": 8}
LEFT = {"truncation": {"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0}}
CASED = {"normalizer": {"lowercase": False}}
PROMPTS = {"prompts": {"query": "a small tool for: ", "document": "", "passage": "the "}}
PLAIN = {"tokenizer_class": "PreTrainedTokenizerFast"}


def token(text, id=None, **flags):
    token = {"content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **flags}
    return token if id is None else {"id": id, **token}


LISTED = [token("[PAD]", 0), token("[UNK]", 1), token("[CLS]", 2), token("[SEP]", 3), token("[MASK]", 15)]
DECODER = {str(entry["id"]): {key: value for key, value in entry.items() if key != "id"} for entry in LISTED}

CASES = {
    "plain": {},
    "without a normalization": {"modules.json": MODULES[:2]},
    "in a folder of its own": {"modules.json": [{**MODULES[0], "path": "0_Transformer"}, *MODULES[1:]], "below": "0_Transformer"},
    "a default prompt": {"config_sentence_transformers.json": {**PROMPTS, "default_prompt_name": "query"}},
    "prompts without a default": {"config_sentence_transformers.json": PROMPTS},
    "a prompt by name": {"config_sentence_transformers.json": PROMPTS, "prompt_name": "passage"},
    "a default prompt of no text": {"config_sentence_transformers.json": {"prompts": {}, "default_prompt_name": "document"}},
    "a default prompt in a text that is cut off": {
        "config_sentence_transformers.json": {**PROMPTS, "default_prompt_name": "query"}, "tokenizer_config.json": CUT,
    },
    "model_max_length": {"tokenizer_config.json": CUT},
    "model_max_length without a limit": {"tokenizer_config.json": {"model_max_length": 1000000000000000019884624838656}},
    "max_len": {"tokenizer_config.json": {"max_len": 7}},
    "max_seq_length": {"tokenizer_config.json": CUT, "sentence_bert_config.json": {"max_seq_length": 6, "do_lower_case": False}},
    "max_seq_length of another name": {"sentence_roberta_config.json": {"max_seq_length": 6}},
    "truncation_side": {"tokenizer_config.json": {**CUT, "truncation_side": "left"}},
    "truncation.direction": {"tokenizer_config.json": CUT, "tokenizer.json": LEFT},
    "truncation_side over truncation.direction": {"tokenizer_config.json": {**CUT, "truncation_side": "right"}, "tokenizer.json": LEFT},
    "truncation.max_length alone": {"tokenizer.json": LEFT},
    "do_lower_case": {"tokenizer_config.json": {"do_lower_case": False}},
    "do_lower_case over normalizer": {"tokenizer.json": CASED},
    "do_lower_case as normalizer": {"tokenizer_config.json": {"do_lower_case": False}, "tokenizer.json": CASED},
    "do_lower_case of the transformer": {
        "tokenizer_config.json": {"do_lower_case": False}, "sentence_bert_config.json": {"do_lower_case": True},
    },
    "do_lower_case of the transformer alone": {
        "tokenizer_config.json": PLAIN, "tokenizer.json": {"normalizer": None}, "sentence_bert_config.json": {"do_lower_case": True},
    },
    "strip_accents": {"tokenizer_config.json": {"strip_accents": False}},
    "strip_accents of upper case": {"tokenizer_config.json": {"strip_accents": True, "do_lower_case": False}},
    "strip_accents over normalizer": {"tokenizer.json": {"normalizer": {"strip_accents": False}}},
    "tokenize_chinese_chars": {"tokenizer_config.json": {"tokenize_chinese_chars": False}},
    "tokenizer_class PreTrainedTokenizerFast": {"tokenizer_config.json": PLAIN, "tokenizer.json": CASED},
    "tokenizer_class in config.json": {"config.json": PLAIN, "tokenizer.json": CASED},
    "tokenizer_class TokenizersBackend": {
        "tokenizer_config.json": {"tokenizer_class": "TokenizersBackend"}, "tokenizer.json": {"pre_tokenizer": {"type": "WhitespaceSplit"}},
    },
    "tokenizer_class BertTokenizerFast": {"tokenizer_config.json": {"tokenizer_class": "BertTokenizerFast"}, "tokenizer.json": CASED},
    "no post_processor": {"tokenizer_config.json": PLAIN, "tokenizer.json": {"post_processor": None}},
    "special tokens of no class": {
        "tokenizer_config.json": {**PLAIN, "sep_token": "[SEP]", "unk_token": {"__type": "AddedToken", **token("[UNK]", lstrip=True)}},
    },
    "cls_token and sep_token": {
        "tokenizer_config.json": {"cls_token": "a", "sep_token": "the"},
        "tokenizer.json": {"post_processor": {
            "single": [{"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "the", "type_id": 0}}],
            "special_tokens": {"a": {"id": "a", "ids": [4], "tokens": ["a"]}, "the": {"id": "the", "ids": [5], "tokens": ["the"]}},
        }},
    },
    "unk_token": {"tokenizer_config.json": {"unk_token": "hand"}, "tokenizer.json": {"model": {"unk_token": "hand"}}},
    "additional_special_tokens": {"tokenizer_config.json": {"additional_special_tokens": ["driv"]}},
    "extra_special_tokens": {"tokenizer_config.json": {"extra_special_tokens": ["driv", "nail"]}},
    "extra_special_tokens with names": {"tokenizer_config.json": {"extra_special_tokens": {"image_token": "driv"}}},
    "special_tokens_map.json": {"special_tokens_map.json": {"mask_token": "hand", "additional_special_tokens": ["driv"]}},
    "special_tokens_map.json over tokenizer_config.json": {
        "tokenizer_config.json": {"mask_token": "tool"}, "special_tokens_map.json": {"mask_token": token("nail", rstrip=True)},
    },
    "added_tokens": {"tokenizer.json": {"added_tokens": [*LISTED, token("tool", 6, special=False, single_word=True)]}},
    "added_tokens_decoder": {"tokenizer.json": {"added_tokens": LISTED}, "tokenizer_config.json": {"added_tokens_decoder": DECODER}},
    "added_tokens_decoder over special_tokens_map.json": {
        "tokenizer.json": {"added_tokens": LISTED}, "tokenizer_config.json": {"added_tokens_decoder": DECODER},
        "special_tokens_map.json": {"mask_token": "nail"},
    },
    "added_tokens.json": {"tokenizer.json": {"added_tokens": LISTED}, "added_tokens.json": {"[MASK]": 15}},
    "model_input_names": {"tokenizer_config.json": {"model_input_names": ["input_ids", "attention_mask"]}},
    "layer_norm_eps": {"config.json": {"layer_norm_eps": 0.5}},
    "gamma and beta": {"weights": {"rename": [["LayerNorm.weight", "LayerNorm.gamma"], ["LayerNorm.bias", "LayerNorm.beta"]]}},
    "a prefix of the encoder": {"weights": {"prefix": "bert."}},
    "half precision": {"weights": {"dtype": "F16"}},
    "a pooling of version 6": {"1_Pooling/config.json": {"pooling_mode": "mean", "pooling_mode_max_tokens": True, "include_prompt": True}},
    "include_prompt without prompts": {"1_Pooling/config.json": {"include_prompt": False}},
    "no configuration of the pooling": {"1_Pooling/config.json": {"embedding_dimension": 24}},
    "a normalization with names": {
        "2_Normalize/config.json": {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"},
    },
    # All keys that docs/embedding.md lists as such that change no vector.
    "keys that change no vector": {
        "config.json": {
            "_name_or_path": "x", "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.4, "bos_token_id": 3,
            "chunk_size_feed_forward": 1, "classifier_dropout": 0.2, "directionality": "bidi", "dtype": "float32", "eos_token_id": 2,
            "finetuning_task": "x", "gradient_checkpointing": False, "hidden_dropout_prob": 0.4, "id2label": {"0": "x", "1": "y"},
            "initializer_range": 0.5, "label2id": {"x": 0, "y": 1}, "output_hidden_states": True, "output_past": True,
            "pad_token_id": 5, "pooler_fc_size": 768, "pooler_type": "first_token_transform", "position_embedding_type": "absolute",
            "problem_type": None, "return_dict": True, "tie_word_embeddings": False, "transformers_version": "4.6.1",
            "type_vocab_size": 2, "use_cache": False, "no_key_that_is_known": 1,
        },
        "tokenizer.json": {
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": 8, "pad_id": 0, "pad_type_id": 0,
                        "pad_token": "[PAD]"},
            "truncation": {"direction": "Right", "max_length": 5, "strategy": "OnlyFirst", "stride": 2},
        },
        "tokenizer_config.json": {
            "add_bos_token": True, "add_eos_token": True, "backend": "tokenizers", "chat_template": "x",
            "clean_up_tokenization_spaces": True, "do_basic_tokenize": False, "is_local": True, "max_length": 5,
            "name_or_path": "x", "never_split": ["nail"], "pad_to_multiple_of": 8, "pad_token_type_id": 0, "padding_side": "right",
            "special_tokens_map_file": "x", "stride": 2, "tokenizer_file": None, "truncation_strategy": "only_first",
            "no_key_that_is_known": 1,
        },
        "sentence_bert_config.json": {
            "unpad_inputs": False, "transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "processing_kwargs": {}, "model_args": {}, "query_length": None,
        },
        "config_sentence_transformers.json": {
            "__version__": {"sentence_transformers": "2.0.0", "pytorch": "1.9.0"}, "model_type": "SentenceTransformer",
            "similarity_fn_name": "dot", "requirements": None,
        },
    },
}


def merge(into, change):
    if not isinstance(into, dict) or not isinstance(change, dict):
        return copy.deepcopy(change)
    return {**into, **{key: merge(into.get(key), value) for key, value in change.items()}}


def is_file(key):
    return key.endswith(".json")


def write(folder, case):
    """The files of a case, as the test writes them."""
    encoder = os.path.join(folder, case.get("below", ""))
    os.makedirs(encoder, exist_ok=True)
    for name in ["config.json", "tokenizer.json"]:
        shutil.copy(os.path.join(tiny, name), encoder)
    weights, change = load_file(os.path.join(tiny, "model.safetensors")), case.get("weights", {})
    for old, new in change.get("rename", []):
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    weights = {change.get("prefix", "") + name: tensor for name, tensor in weights.items()}
    if change.get("dtype") == "F16":
        weights = {name: tensor.half() for name, tensor in weights.items()}
    save_file(weights, os.path.join(encoder, "model.safetensors"), metadata={"format": "pt"})
    for name, value in case.items():
        if is_file(name):
            root = "/" in name or name in ("modules.json", "config_sentence_transformers.json")
            path = os.path.join(folder if root else encoder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            before = json.load(open(path, encoding="utf-8")) if os.path.exists(path) else None
            with open(path, "w", encoding="utf-8") as file:
                json.dump(merge(before, value), file)


def vectors(model, case):
    arguments = {"prompt_name": case["prompt_name"]} if "prompt_name" in case else {}
    found = model.encode(TEXTS, convert_to_tensor=True, **arguments).float()
    return [[float(f"{value:.7g}") for value in vector] for vector in found.tolist()]


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    done = []
    for name, change in CASES.items():
        case = merge(BASE, change)
        with tempfile.TemporaryDirectory() as folder:
            write(folder, case)
            # By itself transformers 5 computes in the type of the weights; docs/embedding.md says that we do not.
            model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32})
            done.append({"name": name, **case, "vectors": vectors(model, case)})
            if name == "a default prompt":
                # The same, saved again by sentence-transformers itself.
                again = os.path.join(folder, "again")
                model.save(again)
                case = {"default": True}
                for place, _, names in os.walk(again):
                    for file in filter(is_file, names):
                        path = os.path.join(place, file)
                        case[os.path.relpath(path, again)] = json.load(open(path, encoding="utf-8"))
                done.append({"name": "saved by sentence-transformers 6", **case, "vectors": vectors(SentenceTransformer(again, device="cpu"), {})})
    with open(os.path.join(here, "cases.json"), "w", encoding="utf-8") as file:
        file.write('{"texts": ' + json.dumps(TEXTS) + ', "cases": [\n' + ",\n".join(map(json.dumps, done)) + "\n]}\n")
    plain = torch.tensor(done[0]["vectors"])
    for case in done:
        difference = (torch.tensor(case["vectors"]) - plain).abs().max().item()
        print(f"{difference:.3f}", case["name"])


if __name__ == "__main__":
    main()
