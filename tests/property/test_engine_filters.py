"""A filter selects what the same expression selects in plain Python."""

from hypothesis import given
from hypothesis import strategies as st

from engine.columns import Columns
from engine.filters import Filter

FIELDS = st.sampled_from(["a", "b", "c d"])
SCALARS = st.one_of(
    st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, -1.25]), st.sampled_from(["x", "y", "true", "1", ""])
)
METADATA = st.dictionaries(FIELDS, st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=3)


def same(item, value):
    return (
        isinstance(item, str) == isinstance(value, str)
        and isinstance(item, bool) == isinstance(value, bool)
        and item == value
    )


def ordered(item, operator, value):
    if isinstance(item, bool) or isinstance(item, str) != isinstance(value, str):
        return False
    return {"<": item < value, "<=": item <= value, ">": item > value, ">=": item >= value}[operator]


@st.composite
def conditions(draw, depth=3, name="p"):
    """(expression, parameters, predicate over one document's metadata)."""
    kind = draw(
        st.sampled_from(["==", "!=", "order", "in", "not in", "exists"] + (["and", "or", "not"] if depth else []))
    )
    if kind in ("and", "or"):
        left, right = draw(conditions(depth - 1, name + "l")), draw(conditions(depth - 1, name + "r"))
        join = (lambda d: left[2](d) and right[2](d)) if kind == "and" else (lambda d: left[2](d) or right[2](d))
        return f"({left[0]}) {kind} ({right[0]})", {**left[1], **right[1]}, join
    if kind == "not":
        inner = draw(conditions(depth - 1, name))
        return f"not ({inner[0]})", inner[1], lambda d: not inner[2](d)
    field = draw(FIELDS)

    def items(document):
        found = document.get(field, [])
        return found if isinstance(found, list) else [found]

    if kind == "exists":
        return f"exists(`{field}`)", {}, lambda d: bool(items(d))
    if kind in ("in", "not in"):
        values = draw(st.lists(SCALARS, max_size=3))
        wanted = kind == "in"
        return (
            f"`{field}` {kind} ${name}",
            {name: values},
            lambda d: wanted == any(same(i, v) for i in items(d) for v in values),
        )
    if kind == "order":
        operator, value = (
            draw(st.sampled_from(["<", "<=", ">", ">="])),
            draw(SCALARS.filter(lambda v: not isinstance(v, bool))),
        )
        return (
            f"`{field}` {operator} ${name}",
            {name: value},
            lambda d: any(ordered(i, operator, value) for i in items(d)),
        )
    value = draw(SCALARS)
    return f"`{field}` {kind} ${name}", {name: value}, lambda d: (kind == "==") == any(same(i, value) for i in items(d))


@given(st.lists(METADATA, min_size=1, max_size=8), conditions())
def test_a_filter_selects_what_python_selects(documents, condition):
    expression, params, predicate = condition
    mask = Filter.parse(expression, params).evaluate(Columns.build(documents))
    assert mask.tolist() == [predicate(document) for document in documents]


@given(st.lists(METADATA, min_size=1, max_size=8), conditions(), st.randoms())
def test_merged_columns_select_what_fresh_ones_select(documents, condition, rng):
    import numpy as np

    expression, params, predicate = condition
    cut = rng.randint(0, len(documents))
    parts, positions, kept = [], 0, []
    for part in (documents[:cut], documents[cut:]):
        keep = [rng.random() < 0.7 for _ in part]
        renamed = np.full(len(part), -1, np.int64)
        for i, stays in enumerate(keep):
            if stays:
                renamed[i] = positions
                positions += 1
                kept.append(part[i])
        parts.append((Columns.build(part), renamed))
    merged = Columns.concat(parts, positions)
    assert Filter.parse(expression, params).evaluate(merged).tolist() == [predicate(document) for document in kept]
