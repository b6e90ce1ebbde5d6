"""torch.export files (`.pt2` of `torch.export.save`): a module from a checked copy.

torch's own loader unpickles sample inputs, custom objects and tensors that say so, and falls back
to formats that are pickled whole. It never sees the file: it gets a new archive in memory, which
has the raw weights and the checked graph, and nothing else.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.export.passes import move_to_device_pass
from torch.export.pt2_archive._package import load_pt2
from torch.utils._pytree import treespec_dumps

from kedge.core.errors import LoadFailed
from kedge.core.values import ModelSchema
from kedge.executors.archive import open_archive, read_entry
from kedge.executors.guards import Guards
from kedge.executors.inputs import SIZE_MAX, InputBounds, check_inputs
from kedge.executors.program import sanitized_payloads, sanitized_program
from kedge.executors.rows import at_sizes
from kedge.executors.tensors import TORCH_DTYPES, Forward
from kedge.executors.trees import argument_order

# torch.export.save names a single program so, and torch.export.load takes no other.
MODEL = "model"
GRAPH = f"models/{MODEL}.json"
WEIGHTS = "data/weights/"
CONSTANTS = "data/constants/"
ARCHIVE_VERSION = b"0"
# Sizes in an example are not 0 or 1, which torch.export would take for constants.
FREE_SIZE = 8


class Program(NamedTuple):
    """An exported program. module: runs it without a look at its inputs. bounds, guards: what they
    must be, in the program's order.
    """

    exported: torch.export.ExportedProgram
    module: torch.nn.Module
    bounds: tuple[InputBounds, ...]
    guards: Guards

    @property
    def keywords(self) -> Sequence[str]:
        """Names of the inputs that the program takes by keyword, which are its last ones."""
        in_spec = self.exported.call_spec.in_spec
        keywords = in_spec.children()[1] if in_spec.num_children == 2 else None
        names: Sequence[str] = (keywords.context or ()) if keywords is not None else ()
        return names

    def order(self, schema: ModelSchema) -> list[int]:
        """For each input of the program, which of the schema it is. Raises LoadFailed."""
        return argument_order(treespec_dumps(self.exported.call_spec.in_spec), schema)


def load_exported(path: Path, device: str = "cpu") -> Program:
    """The program on `device`. Raises LoadFailed with the entry that is refused, or what torch
    raises.
    """
    copy, guards = sanitized_copy(path)
    with warnings.catch_warnings(), torch.inference_mode(False):
        warnings.simplefilter("ignore")
        # What torch.export.load calls first, before it hides the reason and tries pickled formats.
        exported = load_pt2(copy).exported_programs[MODEL]
        if device != "cpu":
            exported = move_to_device_pass(exported, device)
        return program_of(exported, guards)


def program_call(program: Program) -> Forward:
    """The program itself as a function of its inputs, all by position."""
    call, names = program.module.forward, program.keywords
    if not names:
        return call

    def by_keyword(*inputs: object) -> object:
        positional = len(inputs) - len(names)
        return call(*inputs[:positional], **dict(zip(names, inputs[positional:], strict=True)))

    return by_keyword


def exported_forward(program: Program, schema: ModelSchema, call: Forward) -> Forward:
    """`call`, which runs the program, as a function of the schema's inputs, checked, for batches of
    any number of rows. Raises LoadFailed if the declared inputs are not the program's.
    """
    order, bounds, guards = program.order(schema), program.bounds, program.guards

    def forward(*inputs: Any) -> object:
        arguments = [inputs[i] for i in order]
        check_inputs(bounds, arguments)
        if guards:
            guards.check({b.name: t.shape for b, t in zip(bounds, arguments, strict=True)})
        return call(*arguments)

    if not schema.batched:
        return forward
    batches = {bound.dims[0] for bound in bounds if bound.dims}
    if len(batches) != 1:
        raise LoadFailed(f"the inputs have different first dimensions: {sorted(batches)}")
    ((least, most),) = batches
    least = max(least, 1)
    return at_sizes(forward, range(least, min(most, max(schema.rows_max, least)) + 1))


def _bounds(exported: torch.export.ExportedProgram) -> tuple[InputBounds, ...]:
    """What the program was exported for, by input."""
    nodes = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    bounds = []
    for name in exported.graph_signature.user_inputs:
        value = nodes[str(name)].meta.get("val") if isinstance(name, str) else None
        if not isinstance(value, torch.Tensor):
            raise LoadFailed(f"input '{name}': expected a tensor, the program takes {value!r}")
        dims = tuple(_range(exported, size) for size in value.shape)
        bounds.append(InputBounds(str(name), value.dtype, dims))
    return tuple(bounds)


def _range(exported: torch.export.ExportedProgram, size: int | torch.SymInt) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    found = exported.range_constraints.get(size.node.expr)
    if found is None:
        return 0, SIZE_MAX
    # Bounds of sympy: an infinite one is no integer.
    most = int(found.upper) if getattr(found.upper, "is_Integer", False) else SIZE_MAX
    return max(int(found.lower), 0), min(most, SIZE_MAX)


def export_module(
    module: torch.nn.Module, inputs: Sequence[tuple[str, Sequence[int]]], rows: int
) -> Program:
    """A module of this process as a program, with the batch and free dimensions of any size that
    torch finds possible.

    inputs: datatype and per-row dimensions of each; rows: most rows, 0 without a batch dimension.
    Raises what torch raises, above all for a module whose path depends on its data; LoadFailed if
    it depends on sizes.
    """
    batch = [-1] if rows > 1 else [1] * rows
    example, shapes = [], []
    for datatype, dims in inputs:
        wire = [*batch, *dims]
        sizes = [size if size >= 0 else FREE_SIZE for size in wire]
        if rows:
            sizes[0] = rows
        example.append(torch.zeros(sizes, dtype=TORCH_DTYPES[datatype]))
        shapes.append({i: torch.export.Dim.AUTO for i, size in enumerate(wire) if size < 0})
    with torch.no_grad():
        exported = torch.export.export(module, tuple(example), dynamic_shapes=tuple(shapes))
    program = program_of(exported, exported._guards_code)
    _require_general(program, rows)
    return program


def program_of(exported: torch.export.ExportedProgram, guards: Any) -> Program:
    """What a call of `exported` needs. guards: as the file has them. Raises LoadFailed."""
    bounds = _bounds(exported)
    if not isinstance(guards, list):
        raise LoadFailed("guards_code: expected a list")
    read = Guards(guards, [bound.name for bound in bounds])
    return Program(exported, exported.module(check_guards=False), bounds, read)


def _require_general(program: Program, rows: int) -> None:
    """Raise LoadFailed if the answers hold only for some sizes within the ranges."""
    if not program.guards:
        return
    for count in range(1, max(rows, 1) + 1):
        sizes: dict[str, list[int]] = {}
        for bound in program.bounds:
            sizes[bound.name] = [least for least, _ in bound.dims]
            least, most = bound.dims[0] if rows and bound.dims else (1, 1)
            if not least <= count <= most:
                break
            if rows:
                sizes[bound.name][0] = count
            if any(low < high for low, high in bound.dims[1 if rows else 0 :]):
                raise LoadFailed("what it computes depends on the sizes of its free dimensions")
        else:
            broken = program.guards.broken(sizes)
            if broken is not None:
                raise LoadFailed(f"what it computes depends on the number of rows: {broken}")


def sanitized_copy(path: Path) -> tuple[io.BytesIO, Any]:
    """A new archive in memory with the raw weights and the checked graph of `path`, and its guards,
    unread.
    """
    with open_archive(path) as archive:
        root = archive.infolist()[0].filename.partition("/")[0]
        names = {name.removeprefix(f"{root}/") for name in archive.namelist()}
        _check_names(path, names)
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as target:

            def put(name: str, content: bytes) -> None:
                target.writestr(f"{root}/{name}", content)

            def read(name: str) -> bytes:
                return read_entry(archive, f"{root}/{name}")

            put("archive_format", b"pt2")
            put("archive_version", ARCHIVE_VERSION)
            put("byteorder", b"little")
            put(".data/version", b"6\n")
            put(f"data/sample_inputs/{MODEL}.pt", b"")
            graph, guards = sanitized_program(read(GRAPH), f"{path}: entry '{GRAPH}'")
            put(GRAPH, graph)
            for folder, kind in ((WEIGHTS, "weights"), (CONSTANTS, "constants")):
                config = f"{folder}{MODEL}_{kind}_config.json"
                where = f"{path}: entry '{config}'"
                content, entries = sanitized_payloads(read(config), folder, where)
                put(config, content)
                for entry in sorted(entries):
                    if folder + entry not in names:
                        raise LoadFailed(f"{path}: there is no entry '{folder}{entry}'")
                    source = archive.getinfo(f"{root}/{folder}{entry}")
                    put(folder + entry, read_entry(archive, source.filename, source.file_size))
    copy.seek(0)
    return copy, guards


def _check_names(path: Path, names: set[str]) -> None:
    for name in sorted(names):
        legacy = name in (f"{WEIGHTS}{MODEL}.pt", f"{CONSTANTS}{MODEL}.pt")
        custom = name.startswith((f"{CONSTANTS}custom_obj_", f"{CONSTANTS}opaque_obj_"))
        if legacy or custom:
            raise LoadFailed(
                f"{path}: entry '{name}': a pickled object, which is never loaded; save the model "
                "anew with torch.export.save, without custom objects"
            )
    models = sorted(name for name in names if name.startswith("models/"))
    if models != [GRAPH]:
        raise LoadFailed(f"{path}: expected one program, '{GRAPH}', got {models[:5]}")
