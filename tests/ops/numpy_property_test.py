"""Evaluates the NumPy expression of every call that numpy_cases wrote and compares the results.

    numpy_property_test.py NUMPY_CASES [SEED]

Exit status 77, which CTest reports as skipped, where NumPy is absent.
"""
import collections
import math
import subprocess
import sys
import tempfile
import warnings

try:
    import numpy as np
except ImportError:
    print("skipped: this python3 has no numpy (Debian: python3-numpy)")
    sys.exit(77)

TYPES = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "f64": np.float64, "i8": np.int8, "i16": np.int16,
         "i32": np.int32, "i64": np.int64, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64,
         "bool": np.bool_}
DIGITS = {"f64": 52, "f32": 23, "f16": 10, "bf16": 7}  # a last place is 2^-digits
SMALLEST = {"f64": 0.0, "f32": 2.0**-149, "f16": 2.0**-24, "bf16": 2.0**-133}

erf = np.vectorize(math.erf, otypes=[float])
erfc = np.vectorize(math.erfc, otypes=[float])


def softmax(a):
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu_tanh_slope(x):
    u = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    s = 1 / (1 + np.exp(-2 * u))
    return s + 2 * x * s * (1 - s) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)


def rms_norm_slope(g, x, w, eps):
    r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return r * (g * w - x * r * r * (g * w * x).mean(-1, keepdims=True))


def rope(a, position, theta, interleaved):
    n = a.shape[-1]
    rows = a.shape[-2] if a.ndim > 1 else 1
    angle = np.outer(position + np.arange(rows), theta ** (-2 * np.arange(n // 2) / n))
    c, s = (np.cos(angle), np.sin(angle)) if a.ndim > 1 else (np.cos(angle[0]), np.sin(angle[0]))
    y = np.empty_like(a)
    first = (Ellipsis, slice(0, None, 2)) if interleaved else (Ellipsis, slice(0, n // 2))
    second = (Ellipsis, slice(1, None, 2)) if interleaved else (Ellipsis, slice(n // 2, None))
    u, v = a[first], a[second]
    y[first], y[second] = u * c - v * s, u * s + v * c
    return y


def conv(a, b, c, groups, stride, padding, dilation):
    """Convolution over the last axes by slices: one for each element of the kernel."""
    axes = a.ndim - 2
    stride, padding, dilation = stride[-axes:], padding[-axes:], dilation[-axes:]
    a = np.pad(a, [(0, 0), (0, 0)] + [(p, p) for p in padding])
    kernel = b.shape[2:]
    size = [(a.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(axes)]
    y = np.zeros((a.shape[0], b.shape[0], *size), a.dtype)
    ins, outs = b.shape[1], b.shape[0] // groups
    for at in np.ndindex(*kernel):
        window = tuple(slice(at[i] * dilation[i], at[i] * dilation[i] + stride[i] * (size[i] - 1) + 1, stride[i])
                       for i in range(axes))
        for g in range(groups):
            part = a[(slice(None), slice(g * ins, (g + 1) * ins)) + window]
            weight = b[(slice(g * outs, (g + 1) * outs), slice(None)) + at]
            y[:, g * outs:(g + 1) * outs] += np.einsum("nc...,oc->no...", part, weight)
    return y + c.reshape(-1, *[1] * axes)


def read(data, field):
    offset, dtype, shape = field.split(":")
    shape = tuple(int(size) for size in shape.split(",")) if shape else ()
    count = int(np.prod(shape, dtype=np.int64))
    raw = np.frombuffer(data, TYPES[dtype], count, int(offset)).reshape(shape)
    if dtype == "bf16":
        raw = (raw.astype(np.uint32).ravel() << 16).view(np.float32).reshape(shape)
    return dtype, raw


def meet(a, b):
    """The type that two operands compute in: NumPy's among integers, the float where one is."""
    floats = [t for t in (a, b) if t in DIGITS]
    if len(floats) == 2:
        return a if a == b else "f64" if "f64" in (a, b) else "f32"
    if floats:
        return floats[0]
    name = np.promote_types(TYPES[a], TYPES[b]).name
    return {"bool": "bool", "float64": "f64"}.get(name) or name.replace("uint", "u").replace("int", "i")


def rounded(value, dtype):
    """To a float type's values, to nearest even, as float64."""
    if dtype == "bf16":
        bits = value.astype(np.float32).ravel().view(np.uint32).astype(np.uint64)
        bits = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32)
        return bits.view(np.float32).astype(np.float64).reshape(value.shape)
    return value.astype(TYPES[dtype]).astype(np.float64)


def operands_for(name, types, arrays, result_type):
    """Operands in the type that the operation computes in; floats then as float64, which hides no rounding of ours."""
    if name == "embedding":
        return arrays[0].astype(np.float64) if types[0] in DIGITS else arrays[0], arrays[1]
    first = 1 if name == "where" else 0
    computed = types[first]
    for other in types[first + 1:]:
        computed = meet(computed, other)
    if computed not in DIGITS and result_type in DIGITS:
        computed = "f32"  # an operation of floats, given integers
    converted = []
    for k, array in enumerate(arrays):
        if k < first:
            converted.append(array)
        elif computed in DIGITS:
            converted.append(rounded(array, computed))
        else:
            converted.append(array.astype(TYPES[computed]))
    return converted


def tolerance(name, result_type, operands, wanted):
    """In absolute terms: places of the result, and of what was added up."""
    step = 2.0 ** -DIGITS[result_type]
    largest = max([1.0] + [float(np.max(np.abs(o))) for o in operands if o.dtype == np.float64 and o.size])
    bound = 40 * step * np.abs(wanted) + SMALLEST[result_type]
    if name in ("sigmoid", "silu"):
        return bound + 2.0**-119  # the exponential is infinite where the sigmoid is below 2^-126, times |a| < 2^7 here
    if name in ("mod",):
        return bound + step * largest  # of remainders: the quotient's rounding
    if name.startswith(("softmax", "log_softmax", "layer", "rms", "rope")) or name.endswith("_backward"):
        peak = float(np.max(np.abs(wanted))) if wanted.size else 0.0
        return bound + 40 * step * max(peak, largest)
    if name in ("matmul", "conv1d", "conv2d"):  # at most 24 products
        return bound + 24 * step * largest * largest
    if name in ("sum", "mean", "var", "std", "median", "quantile", "sin", "cos", "log", "gelu_tanh", "gelu"):
        return bound + 4 * step * largest
    return bound


def check(line, data):
    fields = line.rstrip("\n").split("\t")
    name, expression, axes, ndim, keepdims, ddof, q, eps, position, theta, interleaved = fields[:11]
    groups, (stride, padding, dilation) = int(fields[11]), ([int(v) for v in f.split(",")] for f in fields[12:15])
    tensors = [read(data, field) for field in fields[15:]]
    types, arrays = [t for t, _ in tensors[:-1]], [x for _, x in tensors[:-1]]
    result_type, result = tensors[-1]
    operands = operands_for(name, types, arrays, result_type)
    axis = tuple(int(a) for a in axes.split(",")) if axes else None
    scope = dict(zip("abc", operands), np=np, axis=axis[0] if axis and len(axis) == 1 else axis, keepdims=keepdims == "1",
                 ddof=float(ddof), q=float(q), eps=float(eps), position=int(position), theta=float(theta),
                 interleaved=interleaved == "1", integer=operands[0].dtype.kind in "iu", erf=erf, erfc=erfc,
                 softmax=softmax, conv=conv, groups=groups, stride=stride, padding=padding,
                 dilation=dilation, gelu_tanh_slope=gelu_tanh_slope, rms_norm_slope=rms_norm_slope, rope=rope)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what we ask on purpose: a spread of too few
        wanted = np.asarray(eval(expression, scope))
    if name == "pow" and scope["integer"]:
        keep = np.broadcast_to(operands[1] >= 0, wanted.shape)  # NumPy has no negative powers of integers
        wanted, result = wanted[keep], result[keep]
    assert wanted.shape == result.shape, f"shape {result.shape}, NumPy {wanted.shape}"
    if result_type not in DIGITS:
        assert np.array_equal(result, wanted.astype(result.dtype)), f"{result}\nNumPy: {wanted}"
        return
    actual = result.astype(np.float64)
    with np.errstate(all="ignore"):
        wanted = wanted.astype(np.float64)
        limit = rounded(wanted, result_type)
        bad = ~(np.abs(actual - wanted) <= tolerance(name, result_type, operands, wanted))
        bad &= ~((actual == limit) | (np.isnan(actual) & np.isnan(limit)))
    assert not bad.any(), f"{actual[bad][:4]}\nNumPy: {wanted[bad][:4]}"


def main():
    seed = sys.argv[2] if len(sys.argv) > 2 else "1"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder, seed], check=True)
        data = open(f"{folder}/data.bin", "rb").read()
        lines = open(f"{folder}/cases.txt", encoding="utf-8").readlines()
    counts, failures = collections.Counter(), []
    for line in lines:
        counts[line.split("\t")[0]] += 1
        try:
            check(line, data)
        except Exception as error:  # one report of all
            failures.append(f"{line[:300]}  {type(error).__name__}: {error}")
    print(f"{len(lines)} calls of {len(counts)} operations, seed {seed}: {len(failures)} differ")
    print("\n".join(failures[:20]))
    sys.exit(1 if failures or not lines else 0)


if __name__ == "__main__":
    main()
