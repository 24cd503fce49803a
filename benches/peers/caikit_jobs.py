"""Caikit's LocalModelTrainer in the cases j_train and j_facts: caikit_jobs.py run CASE... [--n N]

Each measurement runs in an interpreter of its own (`worker NAME JSON`) and prints one line of JSON. Processor time is that of the
process and of the children it has waited for. A forkserver's children belong to the forkserver, whose time is not seen: it is left out.
"""
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

if "worker" in sys.argv or __name__ == "__mp_main__":
    from caikit.core import ModuleBase, ModuleConfig, ModuleSaver, TaskBase, module, task
    from caikit.core.data_model import DataObjectBase, dataobject
    from caikit.core.model_management import model_trainer_factory

    @dataobject("superduper.bench.jobs")
    class Answer(DataObjectBase):
        value: int

    @task(required_parameters={"value": int}, output_type=Answer)
    class Question(TaskBase):
        pass

    @module("8a1b6f0c-53f0-4d7c-9d0e-0a8f4c1f7a11", "Trivial", "0.0.1", Question)
    class Trivial(ModuleBase):
        def __init__(self, blob=b""):
            super().__init__()
            self.blob = blob

        def run(self, value: int) -> Answer:
            return Answer(value=value)

        def save(self, model_path):
            with ModuleSaver(self, model_path=model_path) as saver:
                saver.update_config({"size": len(self.blob)})

        @classmethod
        def load(cls, model_path, **_):
            ModuleConfig.load(model_path)
            return cls()

        @classmethod
        def train(cls, action: str = "", amount: int = 0, note: str = "") -> "Trivial":
            if note:
                with open(note + ".new", "w") as file:
                    file.write(str(os.getpid()))
                os.rename(note + ".new", note)
            end = time.time() + amount
            if action == "loop":
                while time.time() < end:
                    time.sleep(0.001)
            elif action == "sleep":
                time.sleep(amount)
            elif action == "blob":
                return cls(os.urandom(amount << 20))
            elif action == "fail":
                raise ValueError("x" * amount)
            elif action == "exit":
                sys.exit(amount)
            return cls()


METHODS = ("fork", "spawn")


def trainer(method, **config):
    config = {"use_subprocess": method != "thread", **config}
    if method != "thread":
        config["subprocess_start_method"] = method
    return model_trainer_factory.construct({"type": "LOCAL", "config": config}, "bench")


def cpu_ms():
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime)


def rss_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def children():
    count, resident = 0, 0.0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                parent = file.read().rsplit(") ", 1)[1].split()[1]
            if parent == str(os.getpid()):
                count += 1
                with open(f"/proc/{pid}/statm") as file:
                    resident += int(file.read().split()[1]) * resource.getpagesize() / 2**20
        except OSError:
            pass
    return count, resident


def wait_for(path, limit=60):
    end = time.time() + limit
    while not os.path.exists(path):
        if time.time() > end:
            raise TimeoutError(path)
        time.sleep(0.001)
    with open(path) as file:
        return int(file.read())


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def train(method, n):
    """Jobs save their models, as ours do."""
    jobs, found = trainer(method), []
    folder = tempfile.mkdtemp(dir=".")

    def emit(what, **figures):
        found.append({"what": what, **{name: round(value, 3) for name, value in figures.items()}})

    def one(**arguments):
        return jobs.train(Trivial, save_path=folder, save_with_id=True, **arguments)

    one().wait()
    files, before, walls = len(os.listdir("/proc/self/fd")), cpu_ms(), []
    for _ in range(n):
        begun = time.perf_counter()
        future = one()
        future.wait()
        walls.append(1e3 * (time.perf_counter() - begun))
        assert future.get_info().status.name == "COMPLETED"
    emit(
        "submit to done, one by one",
        cpu_ms=(cpu_ms() - before) / n,
        wall_ms=statistics.median(walls),
        rss_mib=peak_mib(),
        open_files_more=len(os.listdir("/proc/self/fd")) - files,
    )

    over, most = threading.Event(), [0, 0.0]

    def sample():
        while not over.wait(0.1):
            count, resident = children()
            most[0], most[1] = max(most[0], count), max(most[1], resident)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    before, begun = cpu_ms(), time.perf_counter()
    futures = [one() for _ in range(100)]
    for future in futures:
        future.wait()
    emit(
        "100 at once",
        cpu_ms=cpu_ms() - before,
        wall_ms=1e3 * (time.perf_counter() - begun),
        rss_mib=peak_mib(),
        children_at_once=most[0],
        children_rss_mib=most[1],
    )
    over.set()

    actions = {"cancel of one that looks": ("loop", 30)}
    if method != "thread":
        actions["cancel of one that never looks"] = ("sleep", 30)
    for what, (action, amount) in actions.items():
        calls, gone = [], []
        for index in range(5):
            note = os.path.join(folder, f"{action}{index}")
            future = one(action=action, amount=amount, note=note)
            wait_for(note)
            begun = time.perf_counter()
            future.cancel()
            calls.append(1e3 * (time.perf_counter() - begun))
            future.wait()
            gone.append(1e3 * (time.perf_counter() - begun))
        emit(what, call_wall_ms=statistics.median(calls), gone_wall_ms=statistics.median(gone))

    if method == "thread":
        for _ in range(8):
            one(action="blob", amount=16).wait()
        before = rss_mib()
        for _ in range(40):
            one(action="blob", amount=16).wait()
        emit("40 finished models of 16 MiB", more_mib=rss_mib() - before)
    return found


def facts(method):
    jobs, found = trainer(method), []
    folder = tempfile.mkdtemp(dir=".")

    def emit(what, **figures):
        found.append({"what": what, **figures})

    both = 0
    for pair in range(50):
        barrier, notes = threading.Barrier(2), [os.path.join(folder, f"{pair}-{side}") for side in range(2)]

        def submit(note, barrier=barrier, pair=pair):
            barrier.wait()
            try:
                jobs.train(Trivial, note=note, external_training_id=f"pair-{pair}").wait()
            except Exception:  # noqa: BLE001: one of the two should be refused
                pass

        threads = [threading.Thread(target=submit, args=(note,)) for note in notes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(0.02)
        both += all(os.path.exists(note) for note in notes)
    emit("50 pairs of callers with one id", both_jobs_ran=both)

    futures = [jobs.train(Trivial, action="loop", amount=1) for _ in range(8)]
    running = max(sum(future.get_info().status.name == "RUNNING" for future in futures) for _ in range(10))
    for future in futures:
        future.cancel()
        future.wait()
    emit("8 jobs, 2 wanted at once", running_at_once=running)

    note = os.path.join(folder, "killed")
    future = jobs.train(Trivial, action="sleep", amount=60, note=note)
    os.kill(wait_for(note), signal.SIGKILL)
    begun = time.perf_counter()
    future.wait()
    info = future.get_info()
    text = " ".join(str(error) + getattr(error, "message", "") for error in info.errors or [])
    emit(
        "the worker is killed by signal 9",
        noticed_wall_ms=round(1e3 * (time.perf_counter() - begun)),
        status=info.status.name,
        says_signal_9="signal 9" in text or "SIGKILL" in text,
        says_out_of_memory="memory" in text.lower() or "OOM" in text,
    )

    future = jobs.train(Trivial, action="exit", amount=0)
    future.wait()
    emit("the worker exits with 0 and without a result", status=future.get_info().status.name)

    future = jobs.train(Trivial, action="fail", amount=1_000_000)
    waiter = threading.Thread(target=future.wait, daemon=True)
    waiter.start()
    waiter.join(8)
    emit("an error of 1 MB", arrives_within_8_s=not waiter.is_alive())
    if waiter.is_alive():
        future.cancel()

    future = jobs.train(Trivial)
    try:
        future.load()
        loads = True
    except Exception:  # noqa: BLE001
        loads = False
    emit("a process job without a save path", loads=loads)

    future = jobs.train(Trivial, action="fail", amount=3)
    future.wait()
    future.cancel()
    emit("cancel of a failed job", status=future.get_info().status.name)
    return found


def submit_one(method, action, amount):
    future = trainer(method).train(
        Trivial, save_path="models", external_training_id="the-one", action=action, amount=amount, note="pid" if amount else ""
    )
    future.wait()
    return [{"status": future.get_info().status.name}]


def find_one(method):
    try:
        return [{"found": True, "status": trainer(method).get_model_future("the-one").get_info().status.name}]
    except Exception as error:  # noqa: BLE001
        return [{"found": False, "status": f"{type(error).__name__}: {error}"[:120]}]


WORKERS = {"train": train, "facts": facts, "submit_one": submit_one, "find_one": find_one}


def start(folder, name, *arguments):
    command = [sys.executable, os.path.abspath(__file__), "worker", name, json.dumps(arguments)]
    # Caikit logs each job without a save path there.
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def go(folder, name, *arguments):
    output, _ = start(folder, name, *arguments).communicate()
    lines = [line for line in output.splitlines() if line.startswith("[")]
    return json.loads(lines[-1]) if lines else [{"error": "the worker ended without a result"}]


def emit(case, isolation, method, lines, **parameters):
    for line in lines:
        isolated = {"isolation": isolation} if isolation else {}
        print(json.dumps({"case": case, **isolated, **parameters, "peer": f"Caikit, {method}", **line}), flush=True)


def run(case, n):
    if case == "j_train":
        for method in ("thread", *METHODS):
            isolation = "thread" if method == "thread" else "process"
            jobs = n or (200 if method == "thread" else 40)
            with tempfile.TemporaryDirectory() as folder:
                emit(case, isolation, method, go(folder, "train", method, jobs), n=jobs)
    else:
        for method in METHODS:
            with tempfile.TemporaryDirectory() as folder:
                emit(case, None, method, go(folder, "facts", method))
            with tempfile.TemporaryDirectory() as folder:
                go(folder, "submit_one", method, "", 0)
                line = {"what": "looked up by another process, after the first has ended", **go(folder, "find_one", method)[0]}
                emit(case, None, method, [line])
            with tempfile.TemporaryDirectory() as folder:
                parent = start(folder, "submit_one", method, "sleep", 60)
                worker = wait_for(os.path.join(folder, "pid"))
                parent.kill()
                parent.wait()
                time.sleep(1)
                line = {"what": "the submitting process is killed", "worker_alive_after_1_s": alive(worker)}
                emit(case, None, method, [{**line, **go(folder, "find_one", method)[0]}])
                if alive(worker):
                    os.kill(worker, signal.SIGKILL)


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "worker":
        print(json.dumps(WORKERS[arguments[1]](*json.loads(arguments[2]))), flush=True)
        # Threads that hang must not keep the interpreter.
        os._exit(0)
    names, n, rest = [], None, iter(arguments[1:])
    for argument in rest:
        if argument == "--n":
            n = int(next(rest))
        elif argument.startswith("--"):
            next(rest)
        else:
            names.append(argument)
    for name in names:
        run(name, n)


if __name__ == "__main__":
    main()
