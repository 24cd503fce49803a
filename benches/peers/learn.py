"""The cases mlp_epoch, cnn_epoch and embed with PyTorch and onnxruntime, one thread each: a line of JSON per measurement.

The models, data, batches and optimizer are those of src/cases/learn.rs; the order of rows and the first weights are not.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

DATA = os.environ["SUPERDUPER_BENCH_DATA"]


class Watch:
    def __init__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def split(self):
        return (time.process_time() - self.cpu) * 1e3, (time.perf_counter() - self.wall) * 1e3


def figures(samples):
    cpu, wall = zip(*samples)
    return {"cpu_ms": round(statistics.median(cpu), 2), "wall_ms": round(statistics.median(wall), 2)}


def emit(**line):
    print(json.dumps(line), flush=True)


def mnist(torch, part, most=None):
    def read(kind, skip):
        with open(os.path.join(DATA, "mnist", f"{part}-{kind}-ubyte"), "rb") as file:
            return torch.frombuffer(bytearray(file.read()[skip:]), dtype=torch.uint8)

    images = read("images-idx3", 16).reshape(-1, 784)[:most].float() / 255
    return images, read("labels-idx1", 8)[:most].long()


def epochs(case, n, reps):
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(1)
    (x, y), (xt, yt) = mnist(torch, "train", n), mnist(torch, "t10k")
    if case == "mlp_epoch":
        model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    else:
        model = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5),
            nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10),
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    samples, accuracies = [], []
    for _ in range(reps):
        watch = Watch()
        order = torch.randperm(n)
        for at in range(0, n, 64):
            rows = order[at : at + 64]
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        samples.append(watch.split())
        with torch.no_grad():
            accuracies.append((model(xt).argmax(1) == yt).float().mean().item())
    emit(case=case, n=n, what="epoch", peer="PyTorch", **figures(samples), accuracy_after_first=round(accuracies[0], 4), epochs=reps)


def embed(batch, reps, peer):
    import numpy as np
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    torch.set_num_threads(1)
    folder = os.path.join(DATA, "minilm")
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)
    with open(os.path.join(DATA, "texts.txt"), encoding="utf-8") as file:
        texts = file.read().splitlines()[: 64 if batch == 1 else 256]

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = AutoModel.from_pretrained(folder, attn_implementation="eager" if peer == "onnxruntime" else "sdpa").eval()

        def forward(self, input_ids, attention_mask):
            out, weight = self.bert(input_ids=input_ids, attention_mask=attention_mask)[0], attention_mask.unsqueeze(-1).float()
            return torch.nn.functional.normalize((out * weight).sum(1) / weight.sum(1), dim=1)

    model = Pooled().eval()
    if peer == "onnxruntime":
        import onnxruntime

        path = os.path.join(DATA, "minilm.onnx")
        if not os.path.exists(path):
            export(torch, model, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(part):
        encoded = tokenizer.encode_batch(part)
        ids, mask = np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded])
        if peer == "onnxruntime":
            return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        with torch.inference_mode():
            return model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()

    run(texts[:batch])
    samples = []
    for _ in range(reps):
        watch = Watch()
        for at in range(0, len(texts), batch):
            run(texts[at : at + batch])
        samples.append(watch.split())
    found = figures(samples)
    emit(case="embed", n=batch, what="embed", peer=peer, **found, texts_per_s=round(len(texts) / found["wall_ms"] * 1e3, 1))


def export(torch, model, path):
    example = torch.ones(2, 8, dtype=torch.int64)
    axes = {0: torch.export.Dim("texts", max=4096), 1: torch.export.Dim("tokens", max=512)}
    torch.onnx.export(
        model, (example, example), path + ".new", input_names=["input_ids", "attention_mask"], output_names=["vectors"],
        dynamic_shapes={"input_ids": axes, "attention_mask": axes}, dynamo=True, external_data=False, verbose=False,
    )
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["run", "one"])
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--n", type=int)
    parser.add_argument("--reps", type=int)
    options, _ = parser.parse_known_args()
    if options.command == "one":
        # A process of its own, as every measurement here has.
        case, *rest = options.cases
        if case == "embed":
            embed(options.n, options.reps or 5, rest[0])
        else:
            epochs(case, options.n or (60000 if case == "mlp_epoch" else 12000), options.reps or 3)
        return
    for case in options.cases:
        runs = [[case] + (["--n", str(options.n)] if options.n else [])]
        if case == "embed":
            runs = [[case, peer, "--n", str(batch)] for batch in (1, 32) for peer in ("PyTorch", "onnxruntime")]
        for run in runs:
            reps = ["--reps", str(options.reps)] if options.reps else []
            # What exporters print is no measurement.
            done = subprocess.run([sys.executable, __file__, "one", *run, *reps], stdout=subprocess.PIPE, text=True, check=True)
            print("\n".join(line for line in done.stdout.splitlines() if line.startswith("{")), flush=True)


if __name__ == "__main__":
    main()
