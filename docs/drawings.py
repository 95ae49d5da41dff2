"""Pictures of what methods do to mask and positions: `drawings()` has them by file name, docs/generate.py writes them.

A small prompt is drawn as a grid: a row is a token that looks, a column a token that is looked at, the number how many
positions back it is found; a small square: it isn't seen. Methods that only reorder or repeat are rows of segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SEGMENTS = {"A": 3, "B": 2, "C": 3}  # tokens of each
PREFIX, SUFFIX = 1, 2
# What a query of this segment (or of the suffix, "?") finds most important, least first: an example for PINE.
LEAST_FIRST = {"A": "CB", "B": "AC", "C": "AB", "?": "BCA"}
CELL, TOP, LEFT = 22, 42, 40
COLOURS = {"A": "#2f81f7", "B": "#d29922", "C": "#2da44e", "D": "#a371f7", "E": "#db61a2"}
PLAIN = "#8c959f"


@dataclass(frozen=True)
class Token:
    """One token of the prompt: its segment ("" before, "?" behind the list), its place in it, and which reading."""

    part: str
    place: int
    again: bool = False


Distance = Callable[[Token, Token], float | None]  # from the query, of the key; None: not seen


@dataclass(frozen=True)
class Panel:
    """One grid: a title, the tokens in the order in which they are drawn, and how far each finds each."""

    title: str
    tokens: Sequence[Token]
    distance: Distance


def prompt(order: str = "ABC") -> list[Token]:
    """Prefix, the segments in this order, suffix."""
    middle = [Token(part, place) for part in order for place in range(SEGMENTS[part])]
    return [Token("", place) for place in range(PREFIX)] + middle + [Token("?", place) for place in range(SUFFIX)]


def starts(order: str) -> dict[str, int]:
    """Where each part begins if the segments stand in this order, one behind the other."""
    begins, cursor = {"": 0}, PREFIX
    for part in order:
        begins[part] = cursor
        cursor += SEGMENTS[part]
    return begins | {"?": cursor}


def positions_in(order: str) -> Callable[[Token], int]:
    """The position of each token with the segments in this order."""
    begins = starts(order)
    return lambda token: begins[token.part] + token.place


def causal(position: Callable[[Token], int]) -> Distance:
    """What stands before is seen, at the difference of the positions."""

    def distance(query: Token, key: Token) -> float | None:
        return position(query) - position(key) if position(key) <= position(query) else None

    return distance


def shared_position(token: Token) -> int:
    """All segments start at the same position; what follows stands behind the longest."""
    begins = {"": 0, "?": PREFIX + max(SEGMENTS.values())}
    return begins.get(token.part, PREFIX) + token.place


def set_based(query: Token, key: Token) -> float | None:
    """Segments don't see each other."""
    strangers = "" not in (query.part, key.part) and query.part != "?" and query.part != key.part
    return None if strangers else causal(shared_position)(query, key)


def graph_kv_position(token: Token) -> int:
    """Second readings start behind the longest first one."""
    longest = max(SEGMENTS.values())
    return shared_position(token) + (longest if token.again or token.part == "?" else 0)


def graph_kv(query: Token, key: Token) -> float | None:
    """A first reading sees itself; a second one all first readings and itself; the suffix both."""
    both_segments = query.part in SEGMENTS and key.part in SEGMENTS
    if both_segments and query.again == key.again and query.part != key.part:
        return None
    if both_segments and query.again < key.again:
        return None
    return causal(graph_kv_position)(query, key)


def own_order(query: Token, others: Callable[[str], str]) -> Distance:
    """The list as this query reads it: the other segments first, its own last."""
    order = others(query.part) + (query.part if query.part in SEGMENTS else "")
    return causal(positions_in(order or "ABC"))


def pine(query: Token, key: Token) -> float | None:
    """Others by importance to the query, the most important nearest; its own segment last."""
    return (
        None if query.part == "" and key.part else own_order(query, lambda part: LEAST_FIRST.get(part, ""))(query, key)
    )


def turned(part: str) -> str:
    """One order, turned so that this part would stand last; without it."""
    if part not in SEGMENTS:
        return "ABC"
    at = "ABC".index(part)
    return "ABC"[at + 1 :] + "ABC"[:at]


def rotor(query: Token, key: Token) -> float | None:
    """The list turned, so that the query's own segment stands last."""
    return None if query.part == "" and key.part else own_order(query, turned)(query, key)


def divided(ratio: float) -> Distance:
    """Ms-PoE: all positions of a head divided by its ratio."""

    def distance(query: Token, key: Token) -> float | None:
        found = causal(positions_in("ABC"))(query, key)
        return None if found is None else round(found / ratio, 1)

    return distance


def shifted(far: int, near: int) -> Distance:
    """STRING: distances from `far` on, shifted down to `near` and up."""

    def distance(query: Token, key: Token) -> float | None:
        found = causal(positions_in("ABC"))(query, key)
        return found if found is None or found < far else found - far + near

    return distance


def placed(base: str, view: str) -> Distance:
    """Segments as they were read in the base order; the suffix finds them where the view would have them."""

    def distance(query: Token, key: Token) -> float | None:
        return causal(positions_in(view if query.part == "?" else base))(query, key)

    return distance


def grids() -> dict[str, list[Panel]]:
    """The panels of each method that owns the attention, and of the plain model."""
    plain = prompt()
    twice = [token for token in plain if token.part != "?"]
    twice += [Token(token.part, token.place, again=True) for token in plain if token.part in SEGMENTS]
    twice += [token for token in plain if token.part == "?"]
    return {
        "none": [Panel("every token looks back", plain, causal(positions_in("ABC")))],
        "permutation": [
            Panel(f"view {number}: {order}", prompt(order), causal(positions_in(order)))
            for number, order in enumerate(("ABC", "BCA"), 1)
        ],
        "set_based": [Panel("segments share positions", plain, set_based)],
        "ape": [Panel("as set_based; the suffix weighs anew", plain, set_based)],
        "graph_kv": [Panel("each segment twice (A', B', C')", twice, graph_kv)],
        "pine": [Panel("each query its own order", plain, pine)],
        "rotor": [Panel("one order, turned", plain, rotor)],
        "placements": [
            Panel("read as ABC, looked at as ABC", plain, placed("ABC", "ABC")),
            Panel("read as ABC, looked at as BCA", plain, placed("ABC", "BCA")),
        ],
        "ms_poe": [Panel(f"a head of ratio {ratio}", plain, divided(ratio)) for ratio in (1.2, 1.8)],
        "string": [Panel("far ones shifted: 6 becomes 3, ...", plain, shifted(6, 3))],
    }


# Of each method, the rows: what is asked, and the segments in the order shown; A is the most relevant, E the least.
ROWS: dict[str, list[tuple[str, str]]] = {
    "reordering": [
        ("retrieved", "CAEBD"),
        ("descending", "ABCDE"),
        ("ascending", "EDCBA"),
        ("edges", "ACEDB"),
        ("attn_rank", "CADBE"),
    ],
}
STYLE = """<style>
text { font: 10px system-ui, sans-serif; fill: #1f2328; text-anchor: middle; dominant-baseline: central }
.title { font-size: 12px; text-anchor: start } .name { font-size: 11px } .left { text-anchor: end }
.empty { fill: none; stroke: #8c959f55 }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } }
</style>"""


def svg(width: float, height: float, title: str, body: Sequence[str]) -> str:
    """The file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">'
    return "\n".join([head, f"<title>{title}</title>", STYLE, *body, "</svg>", ""])


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """A line of text."""
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{words}</text>'


def box(x: float, y: float, part: str, strength: float) -> str:
    """A cell in the colour of what is looked at."""
    colour = COLOURS.get(part, PLAIN)
    return f'<rect x="{x:g}" y="{y:g}" width="{CELL}" height="{CELL}" fill="{colour}" fill-opacity="{strength:.2f}"/>'


def token_name(token: Token) -> str:
    """A1, A2' (read again), ?1; what comes before is a dot."""
    return "·" if not token.part else f"{token.part}{token.place + 1}" + ("'" if token.again else "")


def grid_picture(name: str, panel: Panel) -> str:
    """One panel."""
    body = [text(6, 10, panel.title, "title")]
    for column, key in enumerate(panel.tokens):
        x = LEFT + column * CELL
        body.append(text(x + CELL / 2, TOP - 10, token_name(key), "name"))
        for row, query in enumerate(panel.tokens):
            y, found = TOP + row * CELL, panel.distance(query, key)
            if found is None:
                body.append(f'<rect x="{x + 9:g}" y="{y + 9:g}" width="4" height="4" class="empty"/>')
            else:
                body += [box(x, y, key.part, 0.75 / (1 + found / 4)), text(x + CELL / 2, y + CELL / 2, f"{found:g}")]
    for row, query in enumerate(panel.tokens):
        body.append(text(LEFT - 6, TOP + (row + 0.5) * CELL, token_name(query), "name left"))
    size = CELL * len(panel.tokens)
    title = f"{name}, {panel.title}: which token finds which, and how many positions back"
    return svg(LEFT + size + 14, TOP + size + 6, title, body)


def row_picture(name: str, rows: Sequence[tuple[str, str]]) -> str:
    """Segments as they are shown, a row each."""
    body, label = [], 90
    for number, (words, order) in enumerate(rows):
        y = 6 + number * (CELL + 8)
        body.append(text(label - 8, y + CELL / 2, words, "name left"))
        for slot, part in enumerate(order):
            x = label + slot * (CELL + 6)
            body += [box(x, y, part, 0.55), text(x + CELL / 2, y + CELL / 2, part, "name")]
    return svg(label + 5 * (CELL + 6) + 6, 6 + len(rows) * (CELL + 8), f"{name}: the orders shown", body)


def drawings() -> dict[str, str]:
    """Every picture, by the name of its file."""
    pictures = {}
    for name, panels in grids().items():
        for number, panel in enumerate(panels, 1):
            pictures[name if len(panels) == 1 else f"{name}-{number}"] = grid_picture(name, panel)
    pictures |= {name: row_picture(name, rows) for name, rows in ROWS.items()}
    return {f"{name}.svg": picture for name, picture in pictures.items()}
