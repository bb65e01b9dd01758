"""`sweetspot merge`: writes a model file from a recipe, given as a file or as flags, or shows what the merge would do."""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.commands.downloads import add_download, available
from harness.commands.terminal import ByteBar, say, size_in_words
from harness.declare import Adapter, Alpha, Alphas, Blocks, Checkpoint, Fused, Gradient, Merge, Recipe
from harness.declare.models import DENOISER
from harness.declare.recipe_files import read_recipe
from harness.declare.ways_out import in_speech
from harness.records.harmless_text import printable
from harness.records.short_notes import with_few_names

if TYPE_CHECKING:
    from harness.materialise.file_layout import FilePlan
    from harness.materialise.library import Library
    from harness.weights.hashing import HashingApart

_NOTE: Final = 400
"""Most characters of a note that are shown."""
_RECIPE_FLAGS: Final = ("a", "b", "c", "more", "take", "adapter", "method", "alpha", "beta", "blocks", "preset", "convention",
                        "gradient", "alpha_part", "alpha_key", "weights", "set", "parts", "missing", "dtype", "precision",
                        "force")
_EXAMPLES: Final = """examples:
  sweetspot merge --a base.safetensors --b tuned.safetensors --alpha 0.35 -o merged.safetensors
  sweetspot merge --a A --b B --c BASE --method ties --alpha 1 --set density=0.2 --parts unet,text_encoder -o out.safetensors
  sweetspot merge --a A --b B --preset GRAD_V --dry-run
  sweetspot merge --a A --adapter style.safetensors=0.8 --adapter detail.safetensors -o out.safetensors
  sweetspot merge recipe.toml -o out.safetensors --check"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `merge`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    parser.add_argument("recipe", nargs="?", type=Path, help="a recipe in TOML or JSON, instead of --a and --b")
    models = parser.add_argument_group("models: files, diffusers folders, zoo: names or hub: addresses; add '#ema' for the EMA "
                                       "weights of a file")
    models.add_argument("--a", help="the first model; the result has its layout, its dtype and everything that is not merged")
    models.add_argument("--b", help="the second model, which is merged into A")
    models.add_argument("--c", help="the third model, or the base for methods that merge differences")
    models.add_argument("--more", action="append", default=[], metavar="MODEL", help="a further model; may be repeated")
    models.add_argument("--take", action="append", default=[], metavar="PART=MODEL",
                        help="take a whole component from a model, for example vae=FILE; may be repeated")
    models.add_argument("--adapter", action="append", default=[], metavar="FILE[=WEIGHT]",
                        help="an adapter to fuse into the result, or without --b into A; may be repeated")
    numbers = parser.add_argument_group("numbers")
    numbers.add_argument("--method", default=None, help="the merge method (default: weighted_sum); --methods lists all")
    numbers.add_argument("--alpha", type=float, help="the share of B")
    numbers.add_argument("--beta", type=float, help="the second share, for methods that have one")
    numbers.add_argument("--blocks", help="alpha by block: 26 numbers separated by commas for SD 1 (BASE first), 20 for SDXL; "
                                          "one fewer if --alpha gives BASE")
    numbers.add_argument("--preset", help="alpha by block, from a preset such as GRAD_V")
    numbers.add_argument("--convention", default=None,
                         help="the tool whose blocks are meant: which block time_embed, label_emb, out and the VAE belong to "
                              "(default: supermerger)")
    numbers.add_argument("--gradient", help="alpha by depth: two or more numbers separated by commas")
    numbers.add_argument("--alpha-part", action="append", default=[], metavar="PART=ALPHA",
                         help="another alpha for a component; may be repeated")
    numbers.add_argument("--alpha-key", action="append", default=[], metavar="PATTERN=ALPHA",
                         help="another alpha for matching keys, for example '*attn2*=1'; may be repeated")
    numbers.add_argument("--weights", help="weights of A, B and the further models, separated by commas")
    numbers.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER",
                         help="a setting of the method, for example density=0.2; may be repeated")
    rules = parser.add_argument_group("rules")
    rules.add_argument("--parts", help="components to merge, separated by commas, or all (default: the U-Net or transformer "
                                           "of A)")
    rules.add_argument("--missing", choices=("error", "keep_a"), help="what to do with keys that a model lacks (default: error)")
    rules.add_argument("--dtype", choices=("a", "fp32", "fp16", "bf16"), help="dtype of the result (default: a, the dtype of A)")
    rules.add_argument("--precision", choices=("auto", "fp64"), help="fp64 computes everything in float64 (default: auto)")
    rules.add_argument("--force", action="append", default=[], choices=("prediction", "ema"),
                       help="allow a merge that is refused: models that predict different things, or EMA with plain weights")
    output = parser.add_argument_group("what to do")
    output.add_argument("-o", "--output", type=Path, help="the .safetensors file to write; an existing one is kept as .bak1")
    output.add_argument("--title", help="title in the header (default: the file's name)")
    output.add_argument("--dry-run", action="store_true", help="show coverage and size; read no weights, write nothing")
    output.add_argument("--check", action="store_true", help="check the algebraic identities of this merge on these models")
    output.add_argument("--methods", action="store_true", help="list the merge methods and their settings")
    add_download(output)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 done, 1 refused or a check failed, 2 the command line is wrong."""
    try:
        if given.methods:
            _refuse_others(given)
            return _list_methods(given.method or "")
        model = _model(given)
        if given.output is None and not (given.dry_run or given.check):
            raise ValueError("nothing to do: give -o FILE, --dry-run or --check")  # noqa: TRY301  reported like the others
        if given.title is not None and given.output is None and not given.dry_run:
            raise ValueError("--title is for the header of the written file; give -o FILE too, or remove --title")  # noqa: TRY301
        if given.dry_run and given.check:
            raise ValueError("--dry-run reads no weights, but --check reads all; give one of them")  # noqa: TRY301
    except (ValueError, OSError) as error:
        print(f"sweetspot merge: {printable(str(error))}", file=sys.stderr)
        return 2
    hashing = _hashing(given)
    try:
        return _merge(available(model, allow_download=given.allow_download), given, hashing)
    except (ValueError, OSError, RecursionError) as error:
        message = in_speech(str(error), "flags" if given.recipe is None else "recipe")
        print(f"sweetspot merge: {printable(message)}", file=sys.stderr)
        return 1
    finally:
        if hashing is not None:
            hashing.stop()


def _hashing(given: argparse.Namespace) -> HashingApart | None:
    """A process that hashes the files of a plain merge while this one still plans it; None for all other merges, which know their
    files later."""
    if given.output is None or given.dry_run or None in (given.a, given.b) or any(
            getattr(given, word) for word in ("recipe", "c", "more", "take", "adapter")):
        return None
    from harness.weights.hashing import HashingApart

    with suppress(OSError, ValueError):  # what is wrong with a path is said by whoever opens it
        paths = [Path(name) for name in (given.a, given.b)]
        return HashingApart(paths) if all(path.is_file() for path in paths) else None
    return None


def _refuse_others(given: argparse.Namespace) -> None:
    """Raises ValueError for options that a list of the methods would ignore."""
    others = [name for name in ("recipe", *_RECIPE_FLAGS, "output", "title", "dry_run", "check")
              if name != "method" and getattr(given, name) not in (None, [], False)]
    if others:
        name = "a recipe file" if others[0] == "recipe" else f"--{others[0].replace('_', '-')}"
        raise ValueError(f"--methods only lists the methods, so {name} would be ignored; give --methods alone, or with --method")


def _merge(model: Recipe, given: argparse.Namespace, hashing: HashingApart | None) -> int:
    from harness.check import load_rows, model_problems
    from harness.materialise.equal_weights import changes_nothing, equal_to
    from harness.materialise.file_layout import place
    from harness.materialise.library import Library
    from harness.materialise.plan_recipe import plan_recipe
    from harness.materialise.provenance import input_names
    from harness.materialise.saving import refuse_target, size_on_disk

    root = Path()
    load_rows(model, [*([given.recipe.parent] if given.recipe is not None else []), root])
    if phrases := list(model_problems(model, root.resolve())):
        raise ValueError("; ".join(phrases))
    library = Library(root, hashing=hashing)
    plan = place(plan_recipe(model, library))
    title = given.title if given.title is not None else given.output.stem if given.output else "merge"
    size = size_on_disk(plan, library, title)
    _print_plan(plan, size)
    if given.output is not None:
        refuse_target(given.output, size)
        if given.check and given.output.exists() and any(
                given.output.samefile(path) for file in plan.recipe.files.values() for path in file.files):
            raise ValueError(f"{given.output} is an input of this merge, and --check would read it after it was replaced; give "
                             "another path with -o, or remove --check")
    if problem := changes_nothing(plan.recipe, read=given.check):
        raise ValueError(problem)
    if given.output is None:
        for sentence in equal_to(plan.recipe, read=given.check):
            say(f"the result is {printable(sentence)}")
    if given.dry_run:
        say("dry run: nothing was merged, and nothing was written")
        return 0
    if given.output is not None:
        _save(plan, library, given.output, title)
    if not given.check:
        return 0
    code = _check(plan, given.output)
    library.refuse_changed(input_names(plan.recipe.model, library, plan.bases))
    return code


def _save(plan: FilePlan, library: Library, output: Path, title: str) -> None:
    from harness.materialise.saving import save

    started = time.perf_counter()
    with ByteBar(plan.total, "merging") as bar:
        saved = save(plan, library, output, title, bar.advance, unchanged=False)
    seconds = time.perf_counter() - started
    for reference, digest in saved.hashes.items():
        say(f"input {printable(reference)}: blake3 {digest}")
    for leftover in saved.removed:
        say(f"removed {printable(leftover.name)}, the remains of a killed merge")
    if saved.backup:
        say(f"the old file is kept as {printable(str(saved.backup))}")
    say(f"wrote {printable(str(saved.path))}: {size_in_words(saved.size)} in {seconds:.1f} s")
    for sentence in saved.equal:
        say(f"the file is {printable(sentence)}")


def _check(plan: FilePlan, output: Path | None) -> int:
    from harness.materialise.algebra_checks import check_identities

    with ByteBar(plan.total, "checking") as bar:
        results = check_identities(plan, output, bar.advance)
    for result in results:
        say(f"{'ok    ' if result.holds else 'FAILED' if result.holds is False else 'n/a   '} {result.name}: {result.detail}")
    return 1 if any(result.holds is False for result in results) else 0


def _print_plan(plan: FilePlan, size: int) -> None:
    from harness.materialise.describing import describe

    say("\n".join(printable(line) for line in describe(plan.recipe.model)))
    for component, statuses in plan.coverage.items():
        counts = ", ".join(f"{len(keys)} {status.replace('_', ' ')}" for status, keys in statuses.items())
        say(f"{printable(component):16} {counts or 'nothing'}")
    for component, part in plan.recipe.parts.items():
        for word in dict.fromkeys(block[0] for block in part.blocks) if len(part.blocks) > 1 else ():
            say(f"{component} {word} by block, with the number of keys:")
            slots = [f"{printable(slot)} {value:g} ({count})" for of, slot, value, count in part.blocks if of == word]
            say(textwrap.fill(", ".join(slots), 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))
    for note in plan.notes:
        few = with_few_names(note, 3, where=" (the header of the file has all)")
        cut = f" ... ({len(few) - _NOTE} more characters; the header of the file has all)" if len(few) > _NOTE else ""
        say(f"note: {printable(few[:_NOTE])}{cut}")
    say(f"{len(plan.spans)} tensors, {size_in_words(size)}")


def _model(given: argparse.Namespace) -> Recipe:
    """The recipe of the command line. Raises ValueError for options that cannot be combined."""
    if given.recipe is not None:
        if flags := [name for name in _RECIPE_FLAGS if getattr(given, name) not in (None, [])]:
            raise ValueError(f"--{flags[0].replace('_', '-')} cannot be combined with a recipe file; put it into the recipe")
        return read_recipe(given.recipe)
    adapters = tuple(_adapter(text) for text in given.adapter)
    if given.a is None or (given.b is None and not adapters):
        raise ValueError("give a recipe file, or --a and --b, or --a and --adapter (see sweetspot merge --help)")
    model = _merge_of(given) if given.b is not None else _plain(given)
    return Fused(model=model, adapters=adapters) if adapters else model


def _plain(given: argparse.Namespace) -> Recipe:
    """A alone, to fuse adapters into. Raises ValueError for options of a merge."""
    if flags := [name for name in _RECIPE_FLAGS if name not in ("a", "adapter") and getattr(given, name) not in (None, [])]:
        raise ValueError(f"--{flags[0].replace('_', '-')} needs a merge; give --b too")
    return _checkpoint(given.a)


def _adapter(text: str) -> Adapter:
    """FILE or FILE=WEIGHT; the name of a file may contain "="."""
    path, sign, weight = text.rpartition("=")
    try:
        return Adapter(path=path, weight=float(weight)) if sign and path else Adapter(path=text)
    except ValueError:
        return Adapter(path=text)


def _merge_of(given: argparse.Namespace) -> Merge:
    return Merge(
        a=_checkpoint(given.a), b=_checkpoint(given.b), c=None if given.c is None else _checkpoint(given.c),
        more=tuple(_checkpoint(model) for model in given.more), alpha=_alpha(given), beta=given.beta,
        method="weighted_sum" if given.method is None else given.method, missing=given.missing or "error",
        weights=() if given.weights is None else _numbers(given.weights, "--weights"), settings=_pairs(given.set, "--set"),
        parts=(DENOISER,) if given.parts is None else tuple(part.strip() for part in given.parts.split(",")),
        take={part: _checkpoint(model) for part, model in _named(given.take, "--take", last=False)},
        dtype=given.dtype or "a", precision=given.precision or "auto", force=tuple(given.force))


def _alpha(given: argparse.Namespace) -> Alpha | None:
    ways: list[float | Blocks | Gradient] = []
    convention = given.convention or "supermerger"
    if given.blocks is not None:
        ways.append(Blocks(values=_numbers(given.blocks, "--blocks"), convention=convention, base=given.alpha))
    if given.preset is not None:
        ways.append(Blocks(preset=given.preset, convention=convention, base=given.alpha))
    if given.alpha is not None and not ways:
        ways.append(given.alpha)
    if given.gradient is not None:
        ways.append(Gradient(values=_numbers(given.gradient, "--gradient")))
    if len(ways) > 1:
        raise ValueError("give only one of --alpha, --blocks, --preset and --gradient (with --blocks or --preset, --alpha gives "
                         "BASE)")
    if given.convention is not None and given.blocks is None and given.preset is None:
        raise ValueError("--convention needs --blocks or --preset")
    parts, keys = _pairs(given.alpha_part, "--alpha-part"), _pairs(given.alpha_key, "--alpha-key")
    if not parts and not keys:
        return ways[0] if ways else None
    if not ways:
        raise ValueError("--alpha-part and --alpha-key need a default: give --alpha, --blocks, --preset or --gradient")
    return Alphas(default=ways[0], parts=parts, keys=keys)


def _checkpoint(text: str) -> Recipe:
    path, mark, word = text.rpartition("#")
    return Checkpoint(path=path, ema=True) if mark and word == "ema" else text


def _numbers(text: str, flag: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"{flag} is {text!r}; expected numbers separated by commas") from None


def _pairs(texts: Sequence[str], flag: str) -> Mapping[str, float]:
    numbers = {}
    for name, value in _named(texts, flag):
        try:
            numbers[name] = float(value)
        except ValueError:
            raise ValueError(f"{flag} {name}={value}: {value!r} is not a number") from None
    return numbers


def _named(texts: Sequence[str], flag: str, last: bool = True) -> list[tuple[str, str]]:
    """(name, value) of each NAME=VALUE, split at the last "=" (a pattern may contain others) or at the first (a path may)."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        name, sign, value = text.rpartition("=") if last else text.partition("=")
        if not sign or not name:
            raise ValueError(f"{flag} {text!r}: expected NAME=VALUE")
        if name in (earlier for earlier, _ in pairs):
            raise ValueError(f"{flag} {name!r} is given twice; remove one")
        pairs.append((name, value))
    return pairs


def _list_methods(asked: str) -> int:
    """Lists the built-in methods, those of installed packages, and one of the user's own that --method names."""
    from harness.declare.rows import RowError
    from harness.merge import MERGE_METHODS

    own, wrong = {**MERGE_METHODS}, MERGE_METHODS.clashes()
    installed = MERGE_METHODS.installed()
    for name in (*installed, *([asked] if ":" in asked else [])):
        try:
            own[name] = MERGE_METHODS.load(name, [Path()])
        except RowError as error:
            wrong.append(str(error))
    for name, row in own.items():
        models = f"{row.models} or more models" if row.many else f"{row.models} models"
        takes = [f"alpha {row.alpha_range[0]:g} to {row.alpha_range[1]:g}"] if row.alpha_range else []
        takes += [f"beta {row.beta_range[0]:g} to {row.beta_range[1]:g}"] if row.beta_range else []
        takes += ["weights"] if row.weighted else []
        takes += [f"{p.name} {p.default:g} ({p.meaning})" for p in row.parameters] + (["seed"] if row.random else [])
        base = ", C is the base" if row.base else ""
        package = f" ({installed[name]})" if name in installed else ""
        say(f"{name}{package}: {models}{base}; {', '.join(takes) or 'no numbers'}\n    {row.paper}")
    for problem in wrong:
        print(f"sweetspot merge: {printable(problem)}", file=sys.stderr)
    return 1 if wrong else 0
