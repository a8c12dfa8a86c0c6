#!/usr/bin/env python3
"""Writes the seeds of fuzz_gguf and fuzz_safetensors: small valid files of every value and tensor type."""
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, data):
    return struct.pack("<I", kind) + data


def array(kind, items):
    return value(9, struct.pack("<IQ", kind, len(items)) + b"".join(items))


def gguf(metadata, tensors, version=3, alignment=32):
    """tensors: (name, dims innermost first, ggml type, bytes)"""
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(metadata))
    for key, data in metadata:
        head += text(key) + data
    body = b""
    for name, dims, kind, data in tensors:
        body += b"\0" * (-len(body) % alignment)
        head += text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        head += struct.pack("<IQ", kind, len(body))
        body += data
    return head + b"\0" * (-len(head) % alignment) + body


def safetensors(header, data):
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + data


def main():
    scalars = [("u8", 0, "<B", 1), ("i8", 1, "<b", -1), ("u16", 2, "<H", 2), ("i16", 3, "<h", -2),
               ("u32", 4, "<I", 3), ("i32", 5, "<i", -3), ("f32", 6, "<f", 0.5), ("bool", 7, "<B", 1),
               ("u64", 10, "<Q", 4), ("i64", 11, "<q", -4), ("f64", 12, "<d", 0.25)]
    metadata = [(name, value(kind, struct.pack(form, x))) for name, kind, form, x in scalars]
    metadata += [(f"{name}s", array(kind, [struct.pack(form, x)] * 2)) for name, kind, form, x in scalars]
    metadata += [("s", value(8, text("word"))), ("ss", array(8, [text("a"), text("")]))]
    one, half = struct.pack("<f", 1.0), struct.pack("<e", 0.5)
    dense = [("f32", [4], 0, one * 4), ("f16", [2, 2], 1, half * 4), ("bf16", [4], 30, b"\x80\x3f" * 4),
             ("f64", [1], 28, struct.pack("<d", 1)), ("q8_0", [32], 8, half + b"\x01" * 32),
             ("q4_0", [32], 2, half + b"\x77" * 16), ("q6_k", [256], 14, b"\x11" * 208 + half),
             ("i32", [1, 1, 1, 2], 26, b"\0" * 8)]
    ternary = [("i2_s", [64, 4], 36, b"\x15" * 64 + one + b"\0" * 28), ("tq1_0", [256], 34, b"\x55" * 52 + half),
               ("tq2_0", [256], 35, b"\x15" * 64 + half), ("iq2_bn", [64, 2], 135, (one + b"\x15" * 16) * 2)]
    seeds = {
        "gguf/metadata": gguf(metadata, []),
        "gguf/dense": gguf([("k", value(4, b"\1\0\0\0"))], dense, version=2),
        "gguf/ternary": gguf([], ternary),
        "gguf/aligned": gguf([("general.alignment", value(4, struct.pack("<I", 8)))], dense[:1], alignment=8),
        "safetensors/empty": safetensors({}, b""),
        "safetensors/metadata": safetensors({"__metadata__": {"format": "pt"}}, b""),
        "safetensors/tensors": safetensors(
            {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
             "b": {"dtype": "U8", "shape": [2, 2], "data_offsets": [8, 12]},
             "c": {"dtype": "BF16", "shape": [], "data_offsets": [12, 14]},
             "d": {"dtype": "BOOL", "shape": [0, 3], "data_offsets": [14, 14]}}, bytes(range(14))),
    }
    for name, data in seeds.items():
        path = CORPUS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
