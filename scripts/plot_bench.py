#!/usr/bin/env python3
"""Draws tokens/s as SVG from results of `bitnet bench --json`, or of other programs in the same form.

  scripts/plot_bench.py -o speed.svg --title "16-core Xeon" \\
      --threads pp512 --threads tg128 --depths tg128@16t  bitnet=ours.json ik_llama.cpp=ik.json

--threads TEST       a panel of TEST's tokens/s against threads
--depths TEST@Nt     a panel of TEST's tokens/s with N threads against the tokens in the cache (rows TEST, TEST@D)
NAME=FILE            a curve in each panel where the file has rows for it; several files may share a name

Needs nothing but Python's standard library. Colours follow the reader's light or dark scheme.
"""
import argparse
import html
import json
import math
import sys

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 300, 260, 52, 58, 44, 14
COLOURS = ["#2f6fde", "#d9822b", "#3a9d5d", "#a05fc0", "#c0504d"]
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 14px; }
.small { font-size: 11px; fill: #57606a; }
.grid { stroke: #d0d7de; stroke-width: 1; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9aa4ae; }
  .grid { stroke: #3d444d; }
}
"""


def fail(message):
    sys.exit(f"plot_bench: {message}")


def read_rows(arguments):
    """{name: {test: {threads: median}}}, names in order."""
    curves = {}
    for argument in arguments:
        name, separator, path = argument.partition("=")
        if not separator:
            fail(f"'{argument}' is not NAME=FILE")
        try:
            with open(path, encoding="utf-8") as file:
                rows = json.load(file)["rows"]
            for row in rows:
                tests = curves.setdefault(name, {})
                tests.setdefault(row["test"], {})[row["threads"]] = row["tokens_per_second"]["median"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            fail(f"{path} is no result of bitnet bench --json: {error!r}")
    return curves


def thread_panel(test, curves):
    series = {name: sorted(tests.get(test, {}).items()) for name, tests in curves.items()}
    return {"title": f"{test}, by threads", "logarithmic": True, "series": series}


def depth_panel(text, curves):
    test, separator, threads = text.rpartition("@")
    if not separator or not threads.endswith("t") or not threads[:-1].isdigit():
        fail(f"--depths '{text}' is not TEST@Nt, for example tg128@2t")
    series = {}
    for name, tests in curves.items():
        points = []
        for key, by_threads in tests.items():
            base, _, depth = key.partition("@")
            if base == test and int(threads[:-1]) in by_threads:
                points.append((int(depth or 0), by_threads[int(threads[:-1])]))
        series[name] = sorted(points)
    return {"title": f"{test}, {threads[:-1]} threads, by tokens in the cache", "logarithmic": False, "series": series}


def nice_step(largest):
    """A step of 1, 2 or 5 times a power of ten that gives at most five grid lines."""
    power = 10 ** math.floor(math.log10(largest / 5))
    return next(power * factor for factor in (1, 2, 5, 10) if largest / (power * factor) <= 5)


def draw_panel(panel, left, colours):
    xs = sorted({x for points in panel["series"].values() for x, _ in points})
    ys = [y for points in panel["series"].values() for _, y in points]
    if not ys:
        fail(f"no file has rows for '{panel['title']}'")
    place = (lambda x: math.log2(x)) if panel["logarithmic"] else float
    low, high = place(xs[0]), place(xs[-1])
    step = nice_step(max(ys))
    top_value = step * math.ceil(max(ys) / step)
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x, y):
        across = 0.5 if high == low else (place(x) - low) / (high - low)
        return left + LEFT + across * inner_width, TOP + inner_height * (1 - y / top_value)

    out = [f'<text x="{left + LEFT}" y="{TOP - 12}">{html.escape(panel["title"])}</text>']
    for i in range(round(top_value / step) + 1):
        _, y = at(xs[0], i * step)
        out.append(f'<line class="grid" x1="{left + LEFT}" x2="{left + WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="small" text-anchor="end" x="{left + LEFT - 6}" y="{y + 4:.1f}">{i * step:g}</text>')
    for x in xs:
        across, _ = at(x, 0)
        out.append(f'<text class="small" text-anchor="middle" x="{across:.1f}" y="{HEIGHT - BOTTOM + 18}">{x}</text>')
    for name, points in panel["series"].items():
        if not points:
            continue
        places = [at(x, y) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline fill="none" stroke="{colours[name]}" stroke-width="2" points="{line}"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}"/>' for x, y in places]
    return out


def draw(title, panels, names):
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    width = WIDTH * len(panels)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'role="img" aria-label="{html.escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="20">{html.escape(title)}</text>',
    ]
    for i, panel in enumerate(panels):
        out += draw_panel(panel, i * WIDTH, colours)
    x = LEFT
    for name in names:
        out.append(f'<circle cx="{x + 4}" cy="{HEIGHT - 10}" r="4" fill="{colours[name]}"/>')
        out.append(f'<text x="{x + 14}" y="{HEIGHT - 6}">{html.escape(name)}</text>')
        x += 40 + 7 * len(name)
    return "\n".join(out + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--title", default="tokens per second")
    parser.add_argument("--threads", action="append", default=[], metavar="TEST")
    parser.add_argument("--depths", action="append", default=[], metavar="TEST@Nt")
    parser.add_argument("files", nargs="+", metavar="NAME=FILE")
    options = parser.parse_args()
    curves = read_rows(options.files)
    panels = [thread_panel(test, curves) for test in options.threads]
    panels += [depth_panel(text, curves) for text in options.depths]
    if not panels:
        fail("nothing to draw: give --threads or --depths")
    with open(options.output, "w", encoding="utf-8") as file:
        file.write(draw(f"{options.title}: tokens/s", panels, list(curves)))


if __name__ == "__main__":
    main()
