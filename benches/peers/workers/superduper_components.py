"""The components that are measured, field by field those of superduper-bench."""
import time
import typing as t

import numpy as np
from superduper import Component, trigger

CALLS, ORDER = {}, []


def called(k):
    CALLS[k] = CALLS.get(k, 0) + 1


def noop_callback(a, b, c):
    called('d')


class Trig(Component):
    a: int
    b: str
    c: t.Dict
    d: t.Callable | None = None

    @trigger('apply')
    def start(self):
        called('start')

    @trigger('apply', depends='start', requires='d')
    def go(self):
        called('go')
        self.d(a=self.a, b=self.b, c=self.c)


class Node(Component):
    x: int
    sub: t.Optional[Component] = None
    subs: t.Optional[t.List[Component]] = None


class Root(Component):
    x: int

    @trigger('apply')
    def begin(self):
        called('begin')


class Leaf(Component):
    x: int
    after: t.Optional[Component] = None

    @trigger('apply')
    def work(self):
        called('work')


class Bundle(Component):
    subs: t.Optional[t.List[Component]] = None


class Weights(Component):
    w: np.ndarray


class Holder(Component):
    thing: t.Callable | None = None


class Slow(Component):
    a: int
    hang: t.ClassVar[bool] = False
    fail: t.ClassVar[bool] = False

    @trigger('apply')
    def start(self):
        called('start')
        if Slow.fail:
            raise RuntimeError('trigger failed on purpose')
        if Slow.hang:
            open('marker', 'w').close()
            time.sleep(60)

    @trigger('apply', depends='start')
    def go(self):
        called('go')


class Hooks(Component):
    a: int

    def postinit(self):
        called('postinit')
        super().postinit()

    def setup(self):
        called('setup')
        return super().setup()

    def on_create(self):
        called('on_create')

    def cleanup(self):
        called('cleanup')
        super().cleanup()

    @trigger('apply')
    def start(self):
        called('start')


class Thing:
    def __call__(self):
        return 1


def named(m):
    def body(self):
        ORDER.append(m)
    body.__name__ = m
    return body


def trigger_class(name, n, chained):
    ns, before = {'__module__': __name__, '__annotations__': {'x': int}}, None
    for i in range(n):
        m = 't%03d' % i
        ns[m] = trigger('apply', depends=before)(named(m)) if chained and before else trigger('apply')(named(m))
        before = m
    cls = type(Component)(name, (Component,), ns)
    globals()[name] = cls
    return cls


def trig(i, a=1):
    return Trig(i, a=a, b='text', c={'k': 1}, d=noop_callback)
