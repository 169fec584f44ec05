"""What Triton compiles for a network, and what of a GPU each kernel takes: found without a GPU.

A step runs on torch's ``meta`` device. Every launch is told of instead of made, and Triton's own rules say which
launches share a compiled kernel. To compile needs no GPU either; cuobjdump, which comes with Triton, says what a kernel
takes.

A script, because pytest's processes have Triton's interpreter in the compiler's place. It takes a JSON list of cases
(arguments of :func:`case`) and prints what it found as JSON.
"""

import importlib
import json
import re
import subprocess
import sys
import tempfile

import torch

from lkm_kit.bench.kernels import kernels_of
from lkm_kit.networks import build_network
from lkm_kit.ssm.backends import triton


class Address:
    """A tensor as Triton sees it: its dtype, and where it lies in its memory, which begins at a multiple of 16."""

    def __init__(self, tensor):
        self.dtype, self.place = tensor.dtype, tensor.storage_offset() * tensor.element_size()

    def data_ptr(self):
        return self.place


def launches(network, size, dtype=torch.float32, **options):
    """(kernel, arguments, flags) of every launch of a training step and of one of validation."""
    found = []

    def note(kernel, arguments, flags):
        file, name = kernel.split(".")
        compiled = getattr(importlib.import_module(f"lkm_kit.ssm.backends.{file}"), name)
        found.append((compiled, [Address(a) if torch.is_tensor(a) else a for a in arguments], flags))

    with torch.device("meta"):
        built = build_network(network, input_channels=1, num_classes=14, backend="triton", **options).to(dtype)
        image = torch.empty(2, 1, *size, dtype=dtype)

    def step():
        built(image).sum().backward()
        with torch.no_grad():
            built.eval()(image)

    with triton.listening(note):
        kernels_of(step)
    return found


def variants(found, target):
    """(kernel's name, source, options) of everything that these launches compile on cards of ``target``, 80 for sm_80;
    the parts of Triton's ``JITFunction.run`` that need no driver."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend
    from triton.runtime.jit import create_function_from_signature

    backend, needed = make_backend(GPUTarget("cuda", target, 32)), {}
    for kernel, arguments, flags in found:
        bound, kinds, options = create_function_from_signature(kernel.signature, kernel.params, backend)(
            *arguments, **flags
        )
        key = f"{kernel.fn.__module__}.{kernel.fn.__name__} {kinds} {options}"
        if key not in needed:
            name = f"{kernel.fn.__module__.rsplit('.', 1)[1]}.{kernel.fn.__name__}"
            options, signature, constants, attributes = kernel._pack_args(backend, flags, bound, kinds, options)
            needed[key] = name, ASTSource(kernel, signature, constants, attributes), options
    return list(needed.values())


def taken(source, options, target):
    """Registers of a thread, bytes of its stack (spilt registers), bytes of shared memory, and :func:`scans`."""
    from triton import compile, knobs
    from triton.backends.compiler import GPUTarget

    compiled = compile(source, target=GPUTarget("cuda", target, 32), options=options.__dict__)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {
        "registers": int(re.search(r"REG:(\d+)", told)[1]),
        "spilt": int(re.search(r"STACK:(\d+)", told)[1]) + int(re.search(r"LOCAL:(\d+)", told)[1]),
        "shared": compiled.metadata.shared,
        "threads": 32 * options.num_warps,
        "scans": scans(compiled.asm["ttgir"]),
    }


def scans(ttgir):
    """For each associative scan, over how many threads and warps its first axis, the tokens, is spread."""
    layouts = dict(re.findall(r"^(#\w+) = (#ttg\.blocked<.*>)$", ttgir, re.MULTILINE))
    return [
        [int(re.search(rf"{what} = \[(\d+),", layouts[name])[1]) for what in ("threadsPerWarp", "warpsPerCTA")]
        for name in re.findall(r'"tt\.scan".*?tensor<[^>]*, (#\w+)>', ttgir, re.DOTALL)
    ]


def case(targets, kernels="", dtype="float32", **network):
    """All variants of a step, and what those of the named kernels take, by target."""
    found, told = launches(dtype=getattr(torch, dtype), **network), {}
    for target in targets:
        needed = variants(found, target)
        chosen = [each for each in needed if kernels in each[0]]
        told[target] = len(needed), [(name, taken(source, options, target)) for name, source, options in chosen]
    return told


if __name__ == "__main__":
    print(json.dumps([case(**given) for given in json.loads(sys.argv[1])]))
