"""The workers of superduper.py: each does one measurement in a process of its own and leaves a result file."""
import json, os, sqlite3, statistics, sys, time

import numpy as np
import rich.console
import superduper.base.apply
from superduper import superduper
from superduper_components import *
from superduper_components import CALLS, ORDER


def connect():
    superduper_console = sys.modules['superduper.base.apply'].console
    superduper_console.quiet = True
    init = rich.console.Console.__init__
    rich.console.Console.__init__ = lambda self, *a, **k: init(self, *a, **{**k, 'quiet': True})
    return superduper('sqlite:///' + os.path.abspath('x.db'))


class Report:
    """Operations with their figures; written after each, so that a worker that is stopped leaves what it has."""

    def __init__(self, db=None):
        self.operations, self.seen, self.con = {}, [], None
        if db is not None:
            self.con = db.databackend.connection_manager.local.connection.con

    def count_sql(self):
        self.con.set_trace_callback(self.seen.append)

    def add(self, what, figures):
        self.operations[what] = figures
        save({'operations': self.operations})

    def time(self, what, f, n=1, **more):
        self.each(what, lambda _: f(), 1, **more)

    def each(self, what, f, n, **more):
        save({'operations': self.operations, 'now': what})
        self.seen.clear()
        cpu, wall = [], []
        for i in range(n):
            w, c = time.perf_counter(), time.process_time()
            f(i)
            cpu.append((time.process_time() - c) * 1e3)
            wall.append((time.perf_counter() - w) * 1e3)
        figures = {'cpu_ms': statistics.median(cpu), 'cpu_mean_ms': statistics.mean(cpu), 'wall_ms': statistics.median(wall)}
        if self.seen:
            heads = [q.lstrip(' (').split(None, 1)[0].upper() for q in self.seen]
            ends = sum(h in ('BEGIN', 'COMMIT', 'ROLLBACK', 'SAVEPOINT', 'RELEASE') for h in heads)
            figures.update(statements=(len(heads) - ends) / n, transactions=heads.count('BEGIN') / n)
        self.add(what, {**figures, **more})


def save(result):
    with open('result_%d.json' % os.getpid(), 'w') as f:
        json.dump(result, f)


def run(name, params):
    out = globals()['w_' + name](**params)
    if out is not None:
        save(out)


def w_connect():
    connect()


def w_apply_many(n, again):
    r, db = Report(), connect()
    for what in ('apply', 'reapply unchanged')[:1 + again]:
        CALLS.clear()
        r.each(what, lambda i: db.apply(trig('c%05d' % i), force=True), n)
        r.operations[what]['triggers_run'] = CALLS.get('start', 0) + CALLS.get('go', 0)
    return {'operations': r.operations}


def w_sql_count(rounds):
    db = connect()
    r = Report(db)
    r.count_sql()
    r.time('first apply of the class', lambda: db.apply(trig('c0'), force=True))
    r.each('apply new', lambda i: db.apply(trig('n%d' % i), force=True), rounds)
    r.each('apply new, jobs false', lambda i: db.apply(trig('j%d' % i), force=True, jobs=False), rounds)
    r.each('reapply unchanged', lambda i: db.apply(trig('n%d' % i), force=True), rounds)
    r.each('load', lambda i: db.load('Trig', 'n%d' % i), rounds)
    r.each('show', lambda i: db.show('Trig'), rounds)
    r.each('remove', lambda i: db.remove('Trig', 'n%d' % i), rounds)
    for n in (10, 20):
        tree = Node('r%d' % n, x=0, subs=[Node('m%d_%d' % (n, k), x=k) for k in range(n)])
        r.time('apply tree of %d children' % n, lambda: db.apply(tree, force=True))


def w_lost():
    db = connect()
    db.apply(trig('x'), force=True)
    out = {'start': CALLS.get('start', 0), 'go': CALLS.get('go', 0)}
    for n in (10, 100):
        ORDER.clear()
        try:
            db.apply(trigger_class('Chain%d' % n, n, True)('c', x=1), force=True)
            out['chain%d' % n] = len(ORDER) == n and ORDER == sorted(ORDER)
        except Exception:
            out['chain%d' % n] = False
    return out


def w_tree(shape, n):
    r, db = Report(), connect()
    if shape == 'flat':
        root = Node('root', x=0, subs=[Node('n%05d' % i, x=i) for i in range(n)])
    else:
        root = None
        for i in range(n):
            root = Node('n%05d' % i, x=i, sub=root)
    r.time('apply', lambda: db.apply(root, force=True))
    r.operations['apply']['cpu_ms_per_component'] = r.operations['apply']['cpu_ms'] / (n + (shape == 'flat'))
    r.time('load', lambda: db.load('Node', root.identifier).setup())
    r.time('reapply unchanged', lambda: db.apply(root, force=True))


def w_dag(shape, n):
    r, db = Report(), connect()
    many = None if shape == 'fanout' else trigger_class('Many', n, shape == 'chain')
    for what, jobs in (('without jobs', False), ('with jobs', True)):
        i = what.replace(' ', '_')
        if many:
            c = many(i, x=1)
        else:
            root = Root(i + 'root', x=1)
            c = Bundle(i, subs=[Leaf('%sleaf%03d' % (i, k), x=k, after=root) for k in range(n)])
        ORDER.clear(), CALLS.clear()
        r.time(what, lambda: db.apply(c, force=True, jobs=jobs))
        f = r.operations[what]
        f['user_triggers_run'] = CALLS.get('work', 0) if shape == 'fanout' else len(ORDER)
        f['jobs'] = len(db['Job'].execute())
        if jobs:
            f['cpu_ms_per_job'] = f['cpu_ms'] / max(1, f['jobs'])
            if shape == 'chain':
                f['in_order'] = ORDER == sorted(ORDER)
    return {'operations': r.operations}


def weights(mib, seed=0):
    return np.random.default_rng(seed).standard_normal((mib * 256, 1024), dtype=np.float32)


def w_art_apply(mib):
    r, db, a = Report(), connect(), weights(mib)
    for what in ('apply', 'reapply unchanged'):
        r.time(what, lambda: db.apply(Weights('model', w=a), force=True))


def w_art_load(mib):
    r, db = Report(), connect()
    r.time('read', lambda: db.load('Weights', 'model').setup())


def w_collide():
    db = connect()
    a = weights(4, 1)
    b = a.copy()
    b[100:900, 100:900] += 1.0      # The corners stay equal.
    for i, w in (('wa', a), ('wb', b), ('wc', a), ('wc', b)):
        db.apply(Weights(i, w=w), force=True)
    read = lambda i: db.load('Weights', i).setup().w
    Report().add('two arrays', {
        'arrays_differ': bool((a != b).any()), 'blobs_in_store': len(os.listdir('artifacts')), 'wa_reads_back_as_a': bool((read('wa') == a).all()),
        'wb_reads_back_as_b': bool((read('wb') == b).all()), 'update_of_wc_stored': bool((read('wc') == b).all())})


def w_redo(kind):
    make = {'plain': lambda: Root('r', x=1), 'function': lambda: trig('r'), 'array': lambda: Weights('r', w=weights(1)),
            'object': lambda: Holder('r', thing=Thing())}
    connect().apply(make[kind](), force=True)


def w_many(n, remove):
    r, db = Report(), connect()
    r.time('show all', lambda: db.show())
    r.each('load one', lambda i: db.load('Trig', 'c%05d' % i), n)
    r.each('remove one', lambda i: db.remove('Trig', 'c%05d' % (i + 1)), min(remove, n - 1))
    r.operations['remove one']['left'] = len(db.show('Trig'))
    return {'operations': r.operations}


def snap(db):
    jobs = ['%s %s' % (j['method'], j['status']) for j in db['Job'].execute()]
    return {'result': {'jobs': jobs, 'calls': dict(CALLS), 'shown': len(db.show('Slow'))}}


def w_slow(hang):
    db = connect()
    Slow.hang = hang
    db.apply(Slow('s', a=1), force=True)
    return snap(db)


def w_boom(fail):
    db = connect()
    Slow.fail = fail
    said = 'returned'
    try:
        db.apply(Slow('s', a=1), force=True)
    except Exception as e:
        said = '%s: %s' % (type(e).__name__, str(e)[:80])
    out = snap(db)
    out['result']['apply'] = said
    return out


def w_race(a, me):
    db = connect()
    open('ready%d' % me, 'w').close()
    while not os.path.exists('go'):
        time.sleep(0.0005)
    db.apply(trig('same', a), force=True)


def count(sql):
    with sqlite3.connect('x.db') as con:
        return con.execute(sql).fetchone()[0]


def w_hooks():
    r, db = Report(), connect()

    def step(what, f, make=None):
        c = make() if make else None
        CALLS.clear()
        r.time(what, lambda: f(c))
        more = {'%s_calls' % k: CALLS.get(k, 0) for k in ('postinit', 'setup', 'on_create', 'start', 'cleanup')}
        r.operations[what].update(more, versions=count('select count(*) from "Hooks"'))
    for what, a in (('apply', 1), ('reapply unchanged', 1), ('update', 2)):
        step(what, lambda c: db.apply(c, force=True), lambda: Hooks('h', a=a))
    step('remove', lambda _: db.remove('Hooks', 'h'))
    return {'operations': r.operations}
