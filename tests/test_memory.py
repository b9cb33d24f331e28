"""Tests of where values live: the arena, what is updated in place, and who may hold what of a program's memory.

Takes the corpus, random programs and steps that update state; most run as plain Python, since memory is planned alike.
A step is right if it leaves the state, and every result a caller still holds, as eager mode does.
"""

import itertools

import numpy as np
import pytest
from corpus import CORPUS, close, graph_of, programs
from hypothesis import given, settings
from hypothesis import strategies as st

import sadl
from sadl.compiler.memory import ALIGN, Buffer
from sadl.compiler.pipeline import plan
from sadl.compiler.program import Program

# ---- the arena -------------------------------------------------------------------------------------------------------


def lifetimes(made):
    """For each value of the arena: its first and last byte, and the first and last step that uses it."""
    steps: dict = {}
    for k, eqn in enumerate(made.eqns):
        for v in (*eqn.inputs, *eqn.outs):
            if v in made.layouts:
                steps.setdefault(made.layouts[v].root, []).append(k)
    for root, used in steps.items():
        buffer = made.buffers[root]
        if buffer.kind == "arena":
            yield root, buffer.index, buffer.index + root.aval.size * root.aval.dtype.itemsize, min(used), max(used)


def check_arena(made):
    found = list(lifetimes(made))
    for _, start, end, _, _ in found:
        assert start % ALIGN == 0 and 0 <= start <= end <= made.arena_bytes
    for (_, a, b, born, dies), (_, c, d, born2, dies2) in itertools.combinations(found, 2):
        assert b <= c or d <= a or dies < born2 or dies2 < born, f"two values share memory\n{made.graph}"


@pytest.mark.parametrize("name", CORPUS)
def test_values_alive_at_the_same_time_never_overlap(name):
    check_arena(plan(graph_of(name)[0]))


@settings(max_examples=150)
@given(programs())
def test_values_of_random_programs_never_overlap(drawn):
    check_arena(plan(drawn.graph()))


def test_memory_of_dead_values_is_used_again():
    def fn(x):
        for _ in range(10):
            x = np.cumsum(x * 2, axis=0)  # nothing fuses through it
        return x

    with sadl.no_grad():
        made = plan(sadl.make_ir(fn)(np.ones((64, 64))))
    assert made.arena_bytes == 2 * 64 * 64 * 8


def test_every_address_is_aligned():
    with sadl.config(jit=False):
        program = Program(plan(graph_of("adam")[0]))
    assert program.plan.arena_bytes and program._arena.__array_interface__["data"][0] % ALIGN == 0


# ---- state that is updated in place ----------------------------------------------------------------------------------

N = 3
TIMES_TWO = np.eye(N) * 2


def state(k=0):
    return sadl.tensor(np.arange(float(N * N)).reshape(N, N) + k)


def _assign(a, value):
    a[...] = value


def _swap(a, b, c):
    old = a.copy()
    a[...], b[...] = b, old


def _rotate(a, b, c):
    old = a.copy()
    a[...] = b
    b[...] = c
    c[...] = old


def _before_and_after(a, b, c):
    before = a.copy()
    a[...] = a + 1
    return before, a.copy(), a


def _momentum(a, b, c):
    b[...] = 0.9 * b + c
    a[...] = a - 0.1 * b


def _both_from_both(a, b, c):
    a[...], b[...] = a + b, a - b


def _crossed(a, b, c):
    product = a * b
    a[...], b[...] = b + product, a + product


def _read_later(a, b, c):
    old = a * 1
    a[...] = b + 1
    b[...] = np.sort(old, axis=0)


def _twice(a, b, c):
    a += 1
    b[...] = a * 2
    a *= b


STEPS = {  # what it does, and which of the states are updated in place
    "increment": (lambda a, b, c: _assign(a, a + 1), "a"),
    "operator": (lambda a, b, c: a.__iadd__(c), "a"),
    "from another": (lambda a, b, c: _assign(a, b * 2), "a"),
    "momentum": (_momentum, "ab"),
    "both from both": (_both_from_both, "a"),  # a second one would be read after it was written
    "crossed": (_crossed, "ab"),
    "row total": (lambda a, b, c: _assign(a, a / np.sum(a * a + 1, axis=1, keepdims=True)), ""),
    "column total": (lambda a, b, c: _assign(a, a + np.sum(b, axis=0)), "a"),
    "own total": (lambda a, b, c: _assign(a, a / (1 + np.sum(a))), ""),
    "reversed": (lambda a, b, c: _assign(a, a[::-1] + 1), ""),
    "transposed": (lambda a, b, c: _assign(a, a.T + 1), ""),
    "with itself transposed": (lambda a, b, c: _assign(a, a + a.T), ""),
    "product": (lambda a, b, c: _assign(a, a @ TIMES_TWO), ""),
    "constant": (lambda a, b, c: _assign(a, 0.5), "a"),
    "copied": (lambda a, b, c: _assign(a, b), "a"),
    "sorted": (lambda a, b, c: _assign(a, np.sort(a, axis=1)), ""),
    "one row": (lambda a, b, c: a.__setitem__(1, b[0] + 1), ""),
    "swap": (_swap, "a"),
    "rotate": (_rotate, "ab"),
    "before and after": (_before_and_after, "a"),
    "read later": (_read_later, "a"),
    "twice": (_twice, "ab"),
}


def run(step, compiled, times=4, jit=False):
    """The results of each call, and the states in the end."""
    states = [state(k) for k in range(3)]

    def call():
        return step(*states)

    fn = sadl.compile(call) if compiled else call
    with sadl.no_grad(), sadl.config(jit=jit):
        results = [fn() for _ in range(times)]
    return fn, results, states


def arrays(results):
    return [np.array(x) for r in results if isinstance(r, tuple) for x in r]


@pytest.mark.parametrize("name", STEPS)
def test_state_is_as_in_eager_mode(name):
    step, in_place = STEPS[name]
    _, expected, eager = run(step, compiled=False)
    fn, got, states = run(step, compiled=True)
    assert fn.stats.programs == 1
    assert all(np.array_equal(a, b) for a, b in zip(arrays(got), arrays(expected), strict=True))
    for a, b in zip(states, eager, strict=True):
        assert close(a, b)
    assert written_in_place(fn, states) == in_place


def written_in_place(fn, states):
    """The letters of the states whose new values are written over the old ones by the kernel that computes them."""
    (program,) = fn._runners[0].programs
    made, held = program.plan, [s.held for s in fn._runners[0]._sources]
    copied = {
        e.inputs[0] for e in made.eqns if [x.op.name for x in getattr(e.params.get("body"), "eqns", ())] == ["copy"]
    }
    direct = [p for i, p in made.graph.donated.items() if made.graph.outputs[i] not in copied]
    direct = [p for p in direct if Buffer("input", p) in made.buffers.values()]
    return "".join(letter for letter, s in zip("abc", states, strict=True) if any(held[p] is s for p in direct))


READS = {
    "same": lambda x: x * 1.0,
    "reversed": lambda x: x[::-1],
    "transposed": lambda x: x.T,
    "row": lambda x: x[1],
    "total": lambda x: np.sum(x, axis=0),
    "normal": lambda x: x / (1 + np.sum(x * x, axis=1, keepdims=True)),
    "sorted": lambda x: np.sort(x, axis=0),
}
UPDATE = st.tuples(st.sampled_from("abc"), st.sampled_from(list(READS)), st.sampled_from("abc"), st.sampled_from("abc"))


@settings(max_examples=150)
@given(st.lists(UPDATE, min_size=1, max_size=5))
def test_random_updates_are_as_in_eager_mode(updates):
    def step(a, b, c):
        named = {"a": a, "b": b, "c": c}
        for target, read, x, y in updates:
            named[target][...] = READS[read](named[x]) * 0.5 + np.tanh(named[y])

    (_, _, eager), (_, _, states) = run(step, compiled=False), run(step, compiled=True)
    assert all(close(a, b) for a, b in zip(states, eager, strict=True))


def test_state_is_updated_in_the_callers_own_memory():
    memory = np.arange(4.0)
    held = sadl.Tensor(memory)
    step = sadl.compile(lambda: _assign(held, held * 2))
    for _ in range(3):
        step()
    assert memory.tolist() == [0, 8, 16, 24] and np.shares_memory(held, memory)


def test_an_argument_is_updated_in_place():
    def step(x):
        x += 1
        return x

    compiled = sadl.compile(step)
    for k in range(4):
        x = np.full(3, float(k))
        assert compiled(x) is x and x.tolist() == [k + 1] * 3


@pytest.mark.parametrize("jit", [False, True], ids=["python", "machine code"])
def test_overlapping_state_is_as_in_eager_mode(jit):
    """`a` and `b` are different Tensors on the same memory, one place apart."""
    memories = []
    for compiled in (False, True):
        memory = np.arange(8.0)
        a, b = sadl.Tensor(memory[1:]), sadl.Tensor(memory[:-1])
        step = lambda a=a, b=b: _assign(a, b + 1)
        fn = sadl.compile(step) if compiled else step
        with sadl.config(jit=jit):
            for _ in range(4):
                fn()
        memories.append(memory.tolist())
    assert memories[0] == memories[1]


# ---- whose memory results are ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORPUS)
def test_results_share_no_memory(name):
    graph, inputs = graph_of(name)
    with sadl.config(jit=False), np.errstate(all="ignore"):
        program = Program(plan(graph))
        outs = program(inputs)
    others = [program._arena, *program._consts, *inputs]
    assert not any(np.shares_memory(out, other) for out in outs for other in others)
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(outs, 2))


HOLDS = {
    "the results": lambda r: r,
    "arrays of them": lambda r: [np.asarray(x) for x in r],
    "parts of them": lambda r: [x[1:] for x in r],
    "transposed views": lambda r: [np.asarray(x).T for x in r],
    "buffers": lambda r: [np.frombuffer(memoryview(np.asarray(x))) for x in r],
}


@pytest.mark.parametrize("kind", HOLDS)
def test_what_a_caller_holds_is_never_written_again(kind):
    def fn(x):
        return x * 2, np.sum(x, axis=0), np.reshape(x + 1, 6)

    compiled, held = sadl.compile(fn), []
    with sadl.config(jit=False):
        for k in range(12):
            results = compiled(np.full((3, 2), float(k)))
            held.append((HOLDS[kind](results), [np.array(x) for x in HOLDS[kind](results)]))
            del results
    assert all(np.array_equal(a, b) for now, then in held for a, b in zip(now, then, strict=True))


def test_a_result_can_be_the_next_argument():
    step = sadl.compile(lambda x: x[::-1] * 2)
    x = expected = np.arange(4.0)
    with sadl.config(jit=False):
        for _ in range(10):
            x, expected = step(x), expected[::-1] * 2
    assert np.array_equal(x, expected)


def test_memory_of_results_nobody_holds_is_used_again():
    step = sadl.compile(lambda x: x * 2)
    places = {step(np.ones(1000)).__array_interface__["data"][0] for _ in range(20)}
    assert len(places) <= 4


# ---- inputs of any layout --------------------------------------------------------------------------------------------

LAYOUTS = {
    "transposed": lambda a: np.array(a.T).T,
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "broadcast": lambda a: np.broadcast_to(a[0], a.shape),
    "unaligned": lambda a: unaligned(a),
    "read-only": lambda a: _read_only(a),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "subclass": lambda a: a.view(np.recarray),
    "tensor": sadl.Tensor,
}


def unaligned(a):
    out = np.frombuffer(np.zeros(a.nbytes + 1, np.uint8), a.dtype, offset=1).reshape(a.shape)
    out[...] = a
    return out


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_of_any_layout(layout):
    def fn(x):
        return np.tanh(x) @ x.T + np.sum(x, axis=1)

    compiled = sadl.compile(fn)
    for k in range(4):
        x = LAYOUTS[layout](np.arange(12.0).reshape(4, 3) + k)
        assert close(compiled(x), fn(np.array(x, float)))


@pytest.mark.parametrize("layout", ["transposed", "every other", "reversed", "unaligned"])
def test_arguments_of_any_layout_are_updated(layout):
    def step(x):
        x *= 2

    compiled = sadl.compile(step)
    for k in range(4):
        x = (unaligned if layout == "unaligned" else LAYOUTS[layout])(np.arange(12.0).reshape(4, 3) + k)
        before = np.array(x)
        compiled(x)
        assert np.array_equal(x, before * 2)


def test_layouts_may_alternate():
    compiled = sadl.compile(lambda x: x + 1)
    x = np.arange(12.0).reshape(3, 4)
    for y in (x, x, x, x[::-1], x, np.array(x.T).T, x[::-1], x):
        assert np.array_equal(compiled(y), y + 1)
