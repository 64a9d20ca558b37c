"""The built-in movie and its truth; ``_make_lithiation.py`` is how the file was made."""

from importlib import resources

from rsciio import hspy

from hyperspy_lfp import simulation
from hyperspy_lfp.signals import HRTEMMovie

_FILE = "lithiation_movie.hspy"


def lithiation_movie():
    """A simulated lithiation movie of one particle, with noise and drift.

    12 frames of 256 x 230 pixels of 0.0625 nm, uint16 counts at 600 electrons a pixel; the a axis
    lies 12 degrees counter-clockwise from x. A particle of 12.5 x 11 nm fills at 18C, from
    x = 0.002 in frame 0, with model ``kinetic_hump`` of `hyperspy_lfp.simulation.lithiation`:
    its upper left quarter gives lithium back for a while. `lithiation_truth` is its exact
    composition, and `hyperspy_lfp.simulation.truth` knows the rest.

    Returns
    -------
    HRTEMMovie
        ``(time | x, y)``.

    Examples
    --------
    >>> from hyperspy_lfp import data
    >>> data.lithiation_movie()
    <HRTEMMovie, title: lithiation movie, dimensions: (12|256, 230)>
    """
    with resources.as_file(resources.files(__package__) / _FILE) as path:
        (movie,) = hspy.file_reader(str(path))
    # not as HyperSpy opens a file: what is made of it must not be saved over it
    return HRTEMMovie(movie["data"], axes=movie["axes"], metadata=movie["metadata"])


def lithiation_truth():
    """The exact composition of `lithiation_movie`, at its pixels.

    Returns
    -------
    ConcentrationMap
        ``(time | x, y)``, NaN outside the particle.

    Examples
    --------
    >>> from hyperspy_lfp import data
    >>> data.lithiation_truth()
    <ConcentrationMap, title: true Li concentration, dimensions: (12|256, 230)>
    """
    truth = simulation.truth(lithiation_movie()).x
    truth.metadata.General.title = "true Li concentration"
    # what is made of it is named after it, not after the movie
    truth.metadata.HyperspyLFP.__delattr__("source_title")
    return truth
