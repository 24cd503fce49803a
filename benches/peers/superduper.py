"""Superduper (superduper-framework, superduper_sql) measured with the cases of superduper-bench.

Run by superduper.sh. Every measurement runs in a worker process of its own, in a folder with its own SQLite file
and artifact store, at log level ERROR with the rich consoles switched off. Processor time is user and system time
of the process; peak memory comes from wait4. BEGIN, COMMIT and the like are not counted as statements.
"""
import argparse, json, os, shutil, signal, sqlite3, statistics, subprocess, sys, tempfile, time

HERE = os.path.abspath(__file__)


class Driver:
    def __init__(self, a):
        self.a = a
        self.work = tempfile.mkdtemp(prefix='superduper-peer-', dir=a.work)
        self.made = 0

    def dir(self):
        self.made += 1
        d = os.path.join(self.work, str(self.made))
        os.makedirs(d)
        return d

    def start(self, name, params, d, seed=0):
        env = dict(os.environ, PYTHONWARNINGS='ignore', PYTHONHASHSEED=str(seed), OMP_NUM_THREADS='1',
                   OPENBLAS_NUM_THREADS='1', SUPERDUPER_ARTIFACT_STORE='filesystem://%s/artifacts' % d,
                   SUPERDUPER_FORCE_APPLY='true', SUPERDUPER_LOG_LEVEL='ERROR')
        with open(os.path.join(d, 'log'), 'ab') as log:
            p = subprocess.Popen([sys.executable, HERE, 'worker', name, json.dumps(params)], cwd=d, env=env, stdout=log, stderr=log)
        p.begun = time.time()
        return p

    def wait(self, p, d):
        end, status = p.begun + 4 * self.a.limit, None
        while True:
            pid, status, used = os.wait4(p.pid, os.WNOHANG)
            if pid:
                break
            if time.time() > end or cpu_of(p.pid) > self.a.limit:
                os.kill(p.pid, signal.SIGKILL)
                end = float('inf')
            time.sleep(0.002)
        p.returncode = os.waitstatus_to_exitcode(status)
        out = {}
        file = os.path.join(d, 'result_%d.json' % p.pid)
        if os.path.exists(file):
            with open(file) as f:
                out = json.load(f)
        out.update(process_cpu_ms=(used.ru_utime + used.ru_stime) * 1e3, process_wall_ms=(time.time() - p.begun) * 1e3,
                   rss_mib=used.ru_maxrss / 1024)
        if end == float('inf'):
            out['error'] = 'more than %d s of CPU' % self.a.limit
        elif p.returncode:
            with open(os.path.join(d, 'log'), errors='replace') as f:
                out['error'] = (f.read().strip().splitlines() or ['failed'])[-1][:120]
        return out

    def go(self, name, params=None, d=None, seed=0):
        d = d or self.dir()
        return self.wait(self.start(name, params or {}, d, seed), d)


def cpu_of(pid):
    try:
        with open('/proc/%d/stat' % pid) as f:
            x = f.read().rsplit(')', 1)[1].split()
        return (int(x[11]) + int(x[12])) / os.sysconf('SC_CLK_TCK')
    except OSError:
        return 0


def emit(case, params, figures):
    line = {'case': case, **params, **figures}
    print(json.dumps({k: float('%.4g' % v) if isinstance(v, float) else v for k, v in line.items()}), flush=True)


def emit_operations(case, params, r):
    for what, figures in r.get('operations', {}).items():
        emit(case, {**params, 'what': what}, {**figures, 'rss_mib': r['rss_mib']})
    if 'error' in r:
        emit(case, {**params, 'what': r.get('now', 'apply')}, {'error': r['error']})


def count(d, sql):
    try:
        with sqlite3.connect(os.path.join(d, 'x.db')) as con:
            return con.execute(sql).fetchone()[0]
    except sqlite3.Error:
        return 0


def seed(D, d, n):
    """n components without paying for n applies: one apply, then its row copied."""
    D.go('apply_many', {'n': 1, 'again': False}, d=d)
    with sqlite3.connect(os.path.join(d, 'x.db')) as con:
        cols = [r[1] for r in con.execute('pragma table_info("Trig")')]
        row = dict(zip(cols, con.execute('select * from "Trig"').fetchone()))
        for i in range(1, n):
            r = dict(row, identifier='c%05d' % i, uuid='%018x' % i)
            con.execute('insert into "Trig" values (%s)' % ','.join('?' * len(cols)), [r[c] for c in cols])


def case_a_cold(D, a):
    def show(params, rs):
        med = lambda k: statistics.median(r[k] for r in rs)
        emit('a_cold', params, {'cpu_ms': med('process_cpu_ms'), 'wall_ms': med('process_wall_ms'), 'rss_mib': med('rss_mib'), 'reps': len(rs)})
    reps = min(a.reps or 3, 3)
    show({'what': 'process start'}, [D.go('nothing') for _ in range(reps)])
    show({'what': 'start + connect, new db'}, [D.go('connect') for _ in range(reps)])
    for n in (0, 100):
        d = D.dir()
        seed(D, d, n) if n else D.go('connect', d=d)
        show({'what': 'start + connect, existing db', 'components_in_db': n}, [D.go('connect', d=d) for _ in range(1 if n else reps)])


def case_b_apply(D, a):
    n = a.n or 100
    emit_operations('b_apply', {'n': n, 'triggers': 2}, D.go('apply_many', {'n': n, 'again': True}))


def case_b_sql(D, a):
    emit_operations('b_sql', {}, D.go('sql_count', {'rounds': a.reps or 5}))


def case_b_lost(D, a):
    n = a.reps or 10
    rs = [D.go('lost', seed=s) for s in range(n)]
    of = lambda test: sum(1 for r in rs if test(r))
    emit('b_lost', {'processes': n}, {
        'applies_that_ran_both': of(lambda r: r.get('start') == 1 and r.get('go') == 1),
        'applies_that_lost_go': of(lambda r: r.get('start') == 1 and r.get('go') == 0),
        'chain10_complete_in_order': of(lambda r: r.get('chain10')), 'chain100_complete_in_order': of(lambda r: r.get('chain100'))})


def case_c_tree(D, a):
    for shape, n in (('flat', 100), ('chain', 20), ('chain', 100), ('flat', 1000), ('chain', 1000)):
        if not a.n or n == a.n:
            emit_operations('c_tree', {'shape': shape, 'n': n}, D.go('tree', {'shape': shape, 'n': n}))


def case_d_dag(D, a):
    for shape in ('chain', 'wide', 'fanout'):
        emit_operations('d_dag', {'shape': shape, 'n': 100}, D.go('dag', {'shape': shape, 'n': 100}))


def case_e_artifact(D, a):
    for mib in [int(x) for x in (a.mib or '256,1024').split(',')]:
        d = D.dir()
        for worker, key in (('art_apply', 'apply'), ('art_load', 'read')):
            r = D.go(worker, {'mib': mib}, d=d)
            emit_operations('e_artifact', {'mib': mib}, {**r, 'now': key})
        shutil.rmtree(d)


def case_e_collide(D, a):
    emit_operations('e_collide', {}, D.go('collide'))


def case_e_redo(D, a):
    for kind in ('plain', 'function', 'array', 'object'):
        d = D.dir()
        for _ in range(2):
            r = D.go('redo', {'kind': kind}, d=d)
        jobs = count(d, "select count(*) from \"Job\" where method='set_status'")
        emit('e_redo', {'kind': kind}, {'error': r['error']} if 'error' in r else {'second_apply_is_noop': jobs == 1})


def case_f_many(D, a):
    for n in [a.n] if a.n else [100]:
        d = D.dir()
        seed(D, d, n)
        emit_operations('f_many', {'n': n}, D.go('many', {'n': n, 'remove': min(n, 60)}, d=d))


def case_h_crash(D, a):
    d = D.dir()
    p = D.start('slow', {'hang': True}, d)
    while p.poll() is None and not os.path.exists(os.path.join(d, 'marker')):
        time.sleep(0.01)
    p.kill()
    D.wait(p, d) if p.returncode is None else None
    left = count(d, "select count(*) from \"Job\" where status in ('pending', 'running')")
    r = D.go('slow', {'hang': False}, d=d)
    emit('h_crash', {'point': 'inside trigger start (1st of 2)'}, {'killed': True, 'jobs_unfinished_after_kill': left, 'reapply': r.get('result', r.get('error'))})
    d = D.dir()
    first, again = [D.go('boom', {'fail': fail}, d=d) for fail in (True, False)]
    emit('h_crash', {'point': 'trigger raises'}, {'first': first.get('result'), 'reapply': again.get('result')})


def case_h_race(D, a):
    rounds = a.reps or 4
    for what, step in (('same identifier, same content', 0), ('same identifier, different content', 1)):
        total = {'errors': 0, 'versions': 0}
        for _ in range(rounds):
            d = D.dir()
            D.go('apply_many', {'n': 1, 'again': False}, d=d)
            ps = [D.start('race', {'a': i * step, 'me': i}, d) for i in range(2)]
            while not all(os.path.exists(os.path.join(d, 'ready%d' % i)) or p.poll() is not None for i, p in enumerate(ps)):
                time.sleep(0.001)
            open(os.path.join(d, 'go'), 'w').close()
            total['errors'] += sum(1 for p in ps if 'error' in D.wait(p, d))
            total['versions'] += count(d, "select count(*) from \"Trig\" where identifier='same'")
        emit('h_race', {'what': what, 'rounds': rounds, 'processes': 2}, total)


def case_i_hooks(D, a):
    emit_operations('i_hooks', {}, D.go('hooks'))


CASES = {k[5:]: v for k, v in list(globals().items()) if k.startswith('case_')}


def main():
    p = argparse.ArgumentParser()
    p.add_argument('command', choices=['list', 'run'])
    p.add_argument('cases', nargs='*')
    p.add_argument('--work', help='folder for scratch databases')
    p.add_argument('--n', type=int)
    p.add_argument('--mib')
    p.add_argument('--reps', type=int)
    p.add_argument('--limit', type=int, default=60, help='CPU seconds that one worker may take')
    a = p.parse_args()
    if a.command == 'list':
        return print('\n'.join(CASES))
    D = Driver(a)
    try:
        for c in list(CASES) if a.cases == ['all'] else a.cases:
            CASES[c](D, a)
    finally:
        shutil.rmtree(D.work, ignore_errors=True)


if __name__ == '__main__':
    if sys.argv[1:2] == ['worker']:
        if sys.argv[2] != 'nothing':
            sys.path[0] = os.path.join(os.path.dirname(HERE), 'workers')   # This file has the name of what is measured.
            import superduper_workers
            superduper_workers.run(sys.argv[2], json.loads(sys.argv[3]))
    else:
        main()
