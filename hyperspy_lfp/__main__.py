"""The command line: a movie file (or the built-in example) in, maps and figures out."""

import argparse
import contextlib
import logging
import re
import sys
import traceback
import warnings
from pathlib import Path

from hyperspy_lfp import __version__
from hyperspy_lfp._cli import InputError, output

_PROGRAM = "hyperspy-lfp"
_PACKAGE = Path(__file__).resolve().parent
_DESCRIPTION = """\
Lithium maps from a high-resolution TEM movie by geometric phase analysis: writes the composition
and strain maps, the composition of regions against time, and a summary picture. Without a file
the built-in example is analysed."""
_EPILOG = """\
Lengths and positions are in the units of the image axes, mostly nm, unless they come with a unit.
Exit codes: 0 done, 2 bad input, 1 any other failure, 130 interrupted. Nothing is written unless
everything is."""


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default: those of the process.

    Returns
    -------
    int
        Exit code: 0 done, 2 bad input, 1 any other failure, 130 interrupted.

    Examples
    --------
    >>> from hyperspy_lfp.__main__ import main
    >>> main(["--version"])
    hyperspy-lfp ...
    0
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser().parse_args(_join_values(argv))
        _run(options)
    except SystemExit as stop:  # --help and --version
        return stop.code or 0
    except KeyboardInterrupt:
        _print("interrupted; nothing was written", error=True)
        return 130
    except Exception as error:
        if "--debug" in argv:
            traceback.print_exc()
        bad_input = _is_bad_input(error)
        kind = "" if bad_input and str(error) else f"{type(error).__name__}: "
        _print(f"error: {kind}{error}", error=True)
        return 2 if bad_input else 1
    return 0


def _run(options):
    source = options.file
    if source is not None and not source.exists():
        raise InputError(f"there is no file {source}")
    folder = options.output
    if folder is None:
        folder = Path(f"{'lithiation_example' if source is None else source.stem}_lfp")
    output.check(folder, options.force, source)
    with _quiet(options.debug):
        # importing HyperSpy takes seconds, and none of the above needs it
        from hyperspy_lfp._cli import job

        job.run(options, folder, _print)


@contextlib.contextmanager
def _quiet(debug):
    """Keep the messages of other packages off the terminal; pass ours on as one line each."""
    if debug:
        yield
        return

    def show(message, category, filename, lineno, file=None, line=None):
        ours = _PACKAGE in Path(filename).resolve().parents
        if ours and issubclass(category, UserWarning):
            _print(f"warning: {message}", error=True)

    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = show
            yield
    finally:
        logging.disable(disabled)


def _is_bad_input(error):
    """Whether the message is one of our own checks, rather than of something that broke."""
    if isinstance(error, InputError):
        return True
    if not isinstance(error, ValueError | TypeError | NotImplementedError):
        return False
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return _PACKAGE in Path(raised_in).resolve().parents


def _print(text, error=False):
    """Print one line, also to a terminal that lacks some of its letters."""
    stream = sys.stderr if error else sys.stdout
    text = " ".join(text.split()) if error else text
    line = f"{_PROGRAM}: {text}\n" if error else f"{text}\n"
    try:
        stream.write(line)
    except UnicodeEncodeError:
        stream.write(line.encode(stream.encoding, "replace").decode(stream.encoding))
    stream.flush()


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message} (see {_PROGRAM} --help)")


def _join_values(argv):
    """Write ``--g -1.4,2`` as ``--g=-1.4,2``, or argparse takes the value for an option."""
    joined = []
    for argument in argv:
        last = joined[-1] if joined else ""
        if re.match(r"-[\d.]", argument) and last.startswith("--") and "=" not in last:
            joined[-1] = f"{last}={argument}"
        else:
            joined.append(argument)
    return joined


def _parser():
    parser = _Parser(prog=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {__version__}")
    parser.add_argument(
        "file", nargs="?", type=Path, help="movie or single image, anything that HyperSpy reads"
    )
    _add_input(parser.add_argument_group("input"))
    _add_lattice(parser.add_argument_group("lattice"))
    _add_composition(parser.add_argument_group("composition"))
    _add_output(parser.add_argument_group("output"))
    return parser


def _add_input(group):
    group.add_argument(
        "--file-format", metavar="NAME", help="as HyperSpy names it, if several could be meant"
    )
    group.add_argument(
        "--frames", type=_slice, metavar="START:STOP:STEP", help="use only these frames"
    )
    group.add_argument(
        "--pixel-size", metavar="LENGTH", help="set the pixel size, for example '0.025 nm'"
    )
    group.add_argument(
        "--time-step", metavar="TIME", help="set the time between frames, for example '2 s'"
    )


def _adder(group):
    def add(name, metavar, kind, help, **kwargs):
        group.add_argument(name, metavar=metavar, type=kind, help=help, **kwargs)

    return add


def _add_lattice(group):
    add = _adder(group)
    add(
        "--g",
        "GX,GY",
        _vector,
        "reciprocal vector in 1/units of the image axes; two or more (default: found)",
        action="append",
    )
    add(
        "--hkl",
        "H,K,L",
        _triple,
        "Miller indices: of each --g, or of the found spots to use (default: indexed; the two "
        "strongest in different directions)",
        action="append",
    )
    add(
        "--material",
        "NAME",
        str,
        "name, or a .json file with the fields of materials.Material (default: %(default)s)",
        default="LiFePO4",
    )
    add("--zone", "U,V,W", _triple, "beam direction (default: that of the material)")
    add(
        "--resolution",
        "LENGTH",
        str,
        "standard deviation of the window, for example '0.8 nm' (default: twice the larger "
        "spacing)",
    )
    add("--step", "LENGTH", str, "sampling of the maps, or 'pixel' (default: resolution / 3)")


def _add_composition(group):
    add = _adder(group)
    add(
        "--reference",
        "LEFT,TOP,RIGHT,BOTTOM",
        _edges,
        "region of known composition (default: none; every place is compared with itself in the "
        "reference frame)",
    )
    add(
        "--reference-frame",
        "N",
        _reference_frame,
        "frame, counted from 0 after --frames, or START:STOP, in which the reference is measured; "
        "'none': the region in every frame by itself, or without a region the --g vectors "
        "(default: 0 for a movie, none for one frame)",
    )
    add(
        "--x-reference",
        "X",
        float,
        "composition of the reference (default: %(default)s)",
        default=0.0,
    )
    add(
        "--method",
        "NAME",
        str,
        "gls, a, b, c, difference or trace, see GeometricPhase.to_concentration "
        "(default: %(default)s)",
        default="gls",
    )
    add(
        "--region",
        "NAME=LEFT,TOP,RIGHT,BOTTOM",
        _region,
        "region whose mean x is followed; may be given several times (default: the whole map)",
        action="append",
        default=[],
    )


def _add_output(group):
    group.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for the results (default: name of the file with _lfp, here)",
    )
    group.add_argument("--force", action="store_true", help="replace results that exist")
    group.add_argument(
        "--no-progress", dest="progress", action="store_false", help="no progress bar"
    )
    group.add_argument(
        "--workers", type=_positive, metavar="N", help="threads (default: one for each core)"
    )
    group.add_argument("--debug", action="store_true", help="show tracebacks and log messages")


def _numbers(text, number, kind=float):
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != number or not all(abs(v) < float("inf") for v in values):
        what = "numbers" if kind is float else "integers"
        raise argparse.ArgumentTypeError(f"{text!r} must be {number} {what} with commas between")
    return values


def _vector(text):
    """Two components, which may have units."""
    parts = tuple(part.strip() for part in text.split(","))
    if len(parts) != 2 or not all(parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be two components with a comma between, for example 1.41,1.86"
        )
    return parts


def _triple(text):
    return _numbers(text, 3, int)


def _edges(text):
    left, top, right, bottom = _numbers(text, 4)
    if left >= right or top >= bottom:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be LEFT,TOP,RIGHT,BOTTOM with LEFT < RIGHT and TOP < BOTTOM (y points "
            "down)"
        )
    return left, top, right, bottom


def _region(text):
    name, _, edges = text.rpartition("=")
    if not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=LEFT,TOP,RIGHT,BOTTOM")
    return name.strip(), _edges(edges)


def _slice(text):
    try:
        parts = [int(part) if part.strip() else None for part in text.split(":")]
        if not 2 <= len(parts) <= 3:
            raise ValueError
        chosen = slice(*parts)
        chosen.indices(1)  # a step of zero
        if (chosen.step or 1) < 0:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be START:STOP or START:STOP:STEP, for example 0:100:2"
        ) from None
    return chosen


def _reference_frame(text):
    if text.lower() == "none":
        return "none"
    if ":" in text:
        return _slice(text)
    return _numbers(text, 1, int)[0]


def _positive(text):
    value = _numbers(text, 1, int)[0]
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
