"""Vectors for numba: sixteen lanes at a time, kept in registers.

numba compiles loops and hopes that LLVM vectorises them; exponentials and values carried from step to step defeat it.
Here the few inner loops of the scan are written as LLVM vector instructions instead. LLVM splits a sixteen-lane vector
into whatever the processor has (one AVX-512 register, two AVX2, four NEON), so the code is the same everywhere.

Who needs it is the backward pass. It computes the forward pass again, keeps decays and states in registers, and sums
over lanes; in plain numba it took 3 to 8 times as long. The forward pass alone would nearly do without:
:mod:`lkm_kit.bench.plain` takes 1.1 to 1.4 times as long (``lkm bench scan``; measured on one pinned thread of a shared
AMD EPYC, medians of the thread's own time). It stays here because both passes share their instructions, and with them
their rounding and their treatment of NaN.

Addresses are plain integers (bytes); everything is one dtype, float32 or float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending

LANES = 16
I64 = ir.IntType(64)
# mul and add may become one fused instruction; nothing else is relaxed, so NaN and infinity behave as usual.
_FUSE = ("contract",)

intrinsic: Callable[[Callable], Any] = extending.intrinsic
"""numba's, which gives the function another signature: kernels call it without the first argument."""


def exp2_coefficients(double: bool) -> list[float]:
    """Coefficients q of 2^r = 1 + r q(r) on |r| <= 1/2, lowest first.

    The leading 1 is exact, so that a decay close to 1 keeps its relative accuracy over thousands of steps.

    >>> abs(exp2_coefficients(True)[0] - math.log(2)) < 1e-15
    True
    """
    if double:
        return [math.log(2) ** k / math.factorial(k) for k in range(1, 14)]
    cheb = np.polynomial.Chebyshev.interpolate(lambda s: np.expm1(s / 2 * math.log(2)) / (s / 2), 5)
    in_s = np.polynomial.chebyshev.cheb2poly(cheb.coef)
    return [float(c) * 2.0**k for k, c in enumerate(in_s)]


class Emitter:
    """Writes vector instructions into a function that numba is compiling.

    Args:
        builder: the llvmlite builder of the function.
        double: float64 lanes instead of float32.

    >>> module = ir.Module()
    >>> function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64]), "double_it")
    >>> e = Emitter(ir.IRBuilder(function.append_basic_block()), double=False)
    >>> e.store(e.mul(e.load(function.args[0]), e.const(2.0)), function.args[0])
    """

    def __init__(self, builder: ir.IRBuilder, double: bool):
        self.b: Any = builder  # llvmlite wraps its methods: a checker reads None as their result
        self.scalar = ir.DoubleType() if double else ir.FloatType()
        self.bytes = 8 if double else 4
        self.vec = ir.VectorType(self.scalar, LANES)
        self.ints = ir.VectorType(ir.IntType(8 * self.bytes), LANES)
        self.double = double

    # memory -------------------------------------------------------------------------------------------------------
    def address(self, base: ir.Value, *offsets: ir.Value | int) -> ir.Value:
        """base + offsets, in bytes."""
        for offset in offsets:
            base = self.b.add(base, I64(offset) if isinstance(offset, int) else offset)
        return base

    def load(self, address: ir.Value, dtype: ir.Type | None = None) -> ir.Value:
        dtype = dtype or self.vec
        return self.b.load(self.b.inttoptr(address, dtype.as_pointer()), align=self.bytes)

    def store(self, value: ir.Value, address: ir.Value) -> None:
        self.b.store(value, self.b.inttoptr(address, self.vec.as_pointer()), align=self.bytes)

    def broadcast(self, address: ir.Value) -> ir.Value:
        """One number from memory in all lanes."""
        scalar = self.load(address, self.scalar)
        one = self.b.insert_element(ir.Constant(self.vec, ir.Undefined), scalar, ir.IntType(32)(0))
        return self.b.shuffle_vector(
            one, ir.Constant(self.vec, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        )

    def accumulate_double(self, value: ir.Value, address: ir.Value) -> None:
        """memory[float64] += value: long sums lose no digit."""
        wide = ir.VectorType(ir.DoubleType(), LANES)
        pointer = self.b.inttoptr(address, wide.as_pointer())
        extended = value if self.double else self.b.fpext(value, wide)
        self.b.store(self.b.fadd(self.b.load(pointer, align=8), extended), pointer, align=8)

    # arithmetic ---------------------------------------------------------------------------------------------------
    def const(self, x: float) -> ir.Value:
        return ir.Constant(self.vec, [self.scalar(x)] * LANES)

    def add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.b.fadd(x, y)

    def sub(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.b.fsub(x, y)

    def mul(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.b.fmul(x, y)

    def fma(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """x y + z, fused where the processor can."""
        return self.b.fadd(self.b.fmul(x, y, flags=_FUSE), z, flags=_FUSE)

    def at_least(self, x: ir.Value, low: float) -> ir.Value:
        """max(x, low); a NaN stays a NaN."""
        return self.b.select(self.b.fcmp_ordered("<", x, self.const(low)), self.const(low), x)

    def at_most(self, x: ir.Value, high: float) -> ir.Value:
        return self.b.select(self.b.fcmp_ordered(">", x, self.const(high)), self.const(high), x)

    def polynomial(self, x: ir.Value, coefficients: list[float]) -> ir.Value:
        """Horner's rule, lowest coefficient first."""
        value = self.const(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            value = self.fma(value, x, self.const(c))
        return value

    def exp2(self, x: ir.Value) -> ir.Value:
        """2^x: split x = k + r, a polynomial for 2^r, times 2^k made of exponent bits.

        Below the smallest normal number it saturates; from half a power of two below the largest on it is infinite.
        """
        mantissa, bias = (52, 1023) if self.double else (23, 127)
        x = self.at_most(self.at_least(x, 1.0 - bias), 1.0 + bias)  # all exponent bits set are infinity
        magic = self.const(1.5 * 2.0**mantissa)  # adding it rounds to an integer, which then sits in the low bits
        shifted = self.add(x, magic)
        r = self.sub(x, self.sub(shifted, magic))
        power = self.fma(r, self.polynomial(r, exp2_coefficients(self.double)), self.const(1.0))
        # A product, exact, and not a sum of bits: what is added to the bits of a NaN can make a number of them.
        biased = self.b.add(self.b.bitcast(shifted, self.ints), ir.Constant(self.ints, [bias] * LANES))
        scale = self.b.shl(biased, ir.Constant(self.ints, [mantissa] * LANES))
        return self.mul(power, self.b.bitcast(scale, self.vec))

    def exp(self, x: ir.Value) -> ir.Value:
        return self.exp2(self.mul(x, self.const(1 / math.log(2))))

    def sigmoid(self, x: ir.Value) -> ir.Value:
        one = self.const(1.0)
        return self.b.fdiv(one, self.add(one, self.exp(self.sub(self.const(0.0), x))))

    def softplus(self, x: ir.Value) -> ir.Value:
        """log(1 + e^x) = max(x, 0) + log1p(e^-|x|), the logarithm by log1p(e) = 2 artanh(e / (2 + e))."""
        positive = self.at_least(x, 0.0)
        magnitude = self.b.select(
            self.b.fcmp_ordered("<", x, self.const(0.0)), x, self.sub(self.const(0.0), x)
        )  # -|x|, NaN kept
        e = self.exp(magnitude)
        s = self.b.fdiv(e, self.add(e, self.const(2.0)))
        terms = 17 if self.double else 8  # s <= 1/3: each term adds about one decimal digit
        series = self.polynomial(self.mul(s, s), [2.0 / (2 * k + 1) for k in range(terms)])
        return self.fma(s, series, positive)

    # sums over lanes ----------------------------------------------------------------------------------------------
    def push_sums(self, stack: list[tuple[int, ir.Value]], vector: ir.Value) -> None:
        """Take the next of sixteen vectors, *last one first*; afterwards lane i of ``stack[0][1]`` sums vector i.

        A tree of transposing additions: three instructions a pair, forty-five in all, where sixteen separate
        horizontal sums would take about three times that. Pairs are added as soon as both are there, so that at most
        four wait in registers.
        """
        width = 1
        while stack and stack[-1][0] == width:
            vector = self._fold(vector, stack.pop()[1], width)
            width *= 2
        stack.append((width, vector))

    def _fold(self, x: ir.Value, y: ir.Value, width: int) -> ir.Value:
        """In every group of 2*width lanes: x's sums go to the lower half, y's to the upper half."""
        first, second = [], []
        for group in range(0, LANES, 2 * width):
            low = list(range(group, group + width))
            high = list(range(group + width, group + 2 * width))
            first += low + [LANES + i for i in low]
            second += high + [LANES + i for i in high]
        index = ir.VectorType(ir.IntType(32), LANES)
        one = self.b.shuffle_vector(x, y, ir.Constant(index, first))
        two = self.b.shuffle_vector(x, y, ir.Constant(index, second))
        return self.add(one, two)
