# SPDX-License-Identifier: Apache-2.0
"""Reads the shaders of a program file: backends/vulkan/image.h's format, told apart from the rest by its magic."""
import struct

MAGIC = b"GIRIHSPV"


def shaders(program):
    """[(name, invocations, shared bytes, SPIR-V bytes)] of each image in the file, the portable one first."""
    data = program.read_bytes()
    return [shaders_at(data, at) for at in offsets_of(data)]


def offsets_of(data):
    at = data.find(MAGIC)
    while at >= 0:
        yield at
        at = data.find(MAGIC, at + 1)


def shaders_at(data, at):
    at += len(MAGIC)

    def word():
        nonlocal at
        value, = struct.unpack_from("<I", data, at)
        at += 4
        return value

    def padded(size):
        nonlocal at
        taken = data[at:at + size]
        at += (size + 3) // 4 * 4
        return taken

    _version, num_kernels, _entries, _flags = (word() for _ in range(4))
    at += 8  # the arena's size
    found = []
    for _ in range(num_kernels):
        name = padded(word()).decode()
        invocations, shared, _push = word(), word(), word()
        found.append((name, invocations, shared, padded(4 * word())))
    return found
