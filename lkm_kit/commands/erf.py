"""``lkm erf``: effective receptive fields of a run, a preset or a network of the reader, as a figure and a table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.commands.options import whole_numbers

EPILOG = (
    "Examples:  lkm erf  |  lkm erf tiny-2d tiny-2d-control  |  "
    "lkm erf runs/train/lkm-unet-tiny-2d-0123456789 --before --cls liver  |  "
    "lkm erf lkm-unet/released-2d --size 320,320 --position window:corner --window 40 -o pictures  |  "
    "lkm erf my_file:make_network --channels 3 --size 224,224"
)


def erf(
    networks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders of finished runs, packaged checkpoints, presets (untrained), or FILE:NAME, a network of "
            "yours or a function that makes one; default newest run."
        ),
    ] = None,
    before: Annotated[bool, typer.Option("--before", help="Also every run before its training.")] = False,
    layer: Annotated[str, typer.Option(help='Name of a module, or "logit".')] = "logit",
    position: Annotated[
        str | None,
        typer.Option(help="center, window:center, window:border, window:corner, or row,column; default see above."),
    ] = None,
    cls: Annotated[str | None, typer.Option(help="Organ or class number; default all channels.")] = None,
    rule: Annotated[str | None, typer.Option(help="sum, relu, margin or rademacher; default see above.")] = None,
    window: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the window to outline, in pixels of the layer; default the network's."),
    ] = None,
    norm_stats: Annotated[str, typer.Option(help="frozen or live statistics of normalisation layers.")] = "frozen",
    images: Annotated[int, typer.Option(min=1, help="How many images in the mean.")] = 4,
    noise: Annotated[bool, typer.Option("--noise", help="Random images instead of held-out ones.")] = False,
    size: Annotated[str | None, typer.Option(help="Of the images; default the run's, or the profile's.")] = None,
    channels: Annotated[int, typer.Option(min=1, help="Of the images of presets and of networks of yours.")] = 1,
    seed: Annotated[int, typer.Option(help="Of untrained weights and random images.")] = 0,
    protocol: Annotated[
        str | None, typer.Option(help="Also print the numbers of luo, replknet, vmamba or openerf.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for erf.png, erf.json and data/erf.csv.")] = Path(
        "."
    ),
) -> None:
    """Draw what networks see from one probe, with one colour scale, and write every measure.

    By default the probe is the middle of a window of the network's first stage: where an even number of windows fits,
    the map's centre is the corner of one. The rule is "rademacher", the norm over all channels, which cannot cancel as
    in a sum; with --cls it is "sum", that channel alone. Lengths are in mm for trained networks, in pixels for presets.
    """
    import torch

    from lkm_kit.commands.runs import newest_run
    from lkm_kit.erf import Probe, measures, published_erf
    from lkm_kit.erf import erf as compute
    from lkm_kit.erf.protocols import PROTOCOLS
    from lkm_kit.errors import KitError, one_of
    from lkm_kit.files import atomic_path, require_writable
    from lkm_kit.plots.erf import erf_grid, erf_slices
    from lkm_kit.plots.style import save_figure, use_style
    from lkm_kit.profiles import profile

    if protocol is not None:
        one_of(protocol, PROTOCOLS, "protocol")
    found, organs, config, spacing = {}, None, None, None
    for name in networks or [str(newest_run())]:
        pair, run = _networks(name, before, seed, channels)
        found |= pair
        if run is not None:
            config, organs = run.config, run.config.table.names
            spacing = run.record["preprocessing"]["spacing_mm"]
    sizes = whole_numbers(size, least=1) if size else (config.image_size if config else profile().image_size)
    if len(sizes) not in (2, 3):
        each = ",".join([str(sizes[0])] * 2)
        raise KitError(f"--size {size} is no size of an image", remedy=f"give a number for each axis: --size {each}")
    if len(sizes) != 2 and (protocol or len(found) > 1):
        what = "protocols are for 2D networks" if protocol else "one figure shows one volume's network"
        raise KitError(what, remedy="leave out --protocol" if protocol else "call lkm erf once for each network")
    if spacing is not None and not isinstance(spacing, list):
        spacing = [spacing] * len(sizes)
    sides = window or (_first_windows(found, sizes) if layer == "logit" else None)
    place = whole_numbers(position) if position and position[:1].isdecimal() else position
    place = place or ("center" if sides is None else "window:center")
    rule = rule or ("rademacher" if cls is None else "sum")
    probe = Probe(layer, place, _class(cls, organs), rule, sides)
    require_writable(out, folder=True)
    if noise or config is None or tuple(sizes) != tuple(config.image_size) or len(sizes) != 2:
        shape = images, config.input_channels if config else channels, *sizes
        data, source = torch.randn(shape, generator=torch.Generator().manual_seed(seed)), "random noise"
    else:
        data, source = _held_out(config, images)
    use_style()
    maps = {name: compute(network, data, probe, norm_stats=norm_stats) for name, network in found.items()}
    if len(sizes) == 2:
        figure = erf_grid({f"mean of {images} images": maps})
    else:
        (figure,) = (erf_slices(m, spacing, title=name) for name, m in maps.items())
    table = measures(maps, spacing=spacing).dropna(axis="columns", how="all")
    if spacing is None:
        table.columns = table.columns.str.replace("_mm_", "_pixels_")
    where = place if isinstance(place, str) else ",".join(map(str, place))
    print(f"probe: {layer} at {where}, rule {rule}, {norm_stats} statistics; mean over {images} images ({source})")
    print(table.T.to_string(float_format=lambda v: f"{v:.4g}"))
    if protocol:
        for name, network in found.items():
            numbers = published_erf(protocol, network, data, "logit").numbers
            width = max(map(len, numbers))
            print(f"\n{protocol}, {name}", *(f"{k:{width}}  {v:.4g}" for k, v in numbers.items()), sep="\n")
    shown = {"networks": list(networks or found), "images": images, "source": source, "size": list(sizes)}
    asked = {"layer": layer, "position": place, "window": sides, "cls": cls, "rule": rule, "norm_stats": norm_stats}
    caption = {
        "text": f"Effective receptive fields of {', '.join(maps)}: mean over {images} images ({source}).",
        "config": {**shown, **asked},
        "profile": None,
        "seed": seed,
    }
    picture, _ = save_figure(figure, "erf", caption, folder=out)
    with atomic_path(out / "data" / "erf.csv") as temporary:
        table.to_csv(temporary)
    print(f"\n{picture}\n{out / 'data' / 'erf.csv'}")


def _networks(name: str, before: bool, seed: int, channels: int = 1):
    """Label → network in evaluation mode, and the run it is from (None for a preset, or for the reader's own)."""
    import torch

    from lkm_kit.errors import one_of
    from lkm_kit.networks import network_names
    from lkm_kit.networks.registry import network_of
    from lkm_kit.training import initial_network, load_result, packaged_checkpoints

    own = ":" in name and not Path(name).exists()
    if own or name in network_names():
        torch.manual_seed(seed)
        return {name if own else f"{name}, untrained": network_of(name, channels, 14).eval()}, None
    if not Path(name).exists():
        known = [*packaged_checkpoints(), *network_names()]
        message = f"{name!r} is neither the folder of a run, nor a packaged checkpoint, nor a preset"
        one_of(
            name,
            known,
            "network",
            message=message,
            remedy=f"give a folder below runs/, FILE:NAME for a network of yours, or one of {', '.join(known)}",
        )
    run = load_result(name)
    found = {Path(name).name: run.network.eval()}
    if before:
        found = {f"{Path(name).name}, before": initial_network(run.config).eval(), **found}
    return found, run


def _first_windows(found, sizes) -> tuple[int, ...] | None:
    """Sides of the windows of the first stage, which works at the logits' resolution, of the first network with any."""
    for network in found.values():
        if hasattr(network, "windows") and hasattr(network, "partitions"):  # of the kit
            count = network.partitions[0] == "count"
            return tuple(size // k if count else k for size, k in zip(sizes, network.windows[0]))
    return None


def _held_out(config, count: int):
    """Images that a run was not trained on, and what they are."""
    import torch

    from lkm_kit.training.batches import cohort_items, make_datasets

    if config.data == "cohort":
        items, kind = cohort_items(config, "test", count), "deformed copies of the cohort"
    else:
        items, kind = make_datasets(dataclasses.replace(config, validation_slices=count))["validation"], "slices"
    return torch.stack([items[k]["image"] for k in range(count)]), f"held-out {kind}; {items.source.text}"


def _class(text: str | None, organs) -> int | None:
    from lkm_kit.errors import one_of

    if text is None or text.isdecimal():
        return None if text is None else int(text)
    known = list(organs or ())
    remedy = f"choose one of {', '.join(known)}, or a number" if known else "give a number"
    return known.index(one_of(text, known, "class", remedy=remedy)) + 1  # class 0 is the background
